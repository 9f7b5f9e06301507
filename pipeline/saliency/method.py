"""What a saliency method declares, and the methods there are: one file each in `pipeline/saliency/methods`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.core.params import Count, Settings
from pipeline.core.registry import Registry
from pipeline.saliency.map_file import STORED_AS, StorageType, Values

if TYPE_CHECKING:
    import torch

    from pipeline.models.classifier import Classifier

    Explain = Callable[[Classifier, torch.Tensor, torch.Tensor, Any, Sequence[int]], torch.Tensor]


class MethodSettings(Settings):
    """What every saliency method has; a method adds its own keys.

    Attributes:
        images: how many of the plan's images it explains, the first ones drawn; ``all`` for all of them.
    """

    images: Count | Literal["all"]


ONE_ROW = 2**22
"""``at_once`` of methods that evaluate every channel of a layer, however many: no batch holds more than one row."""


@dataclass(frozen=True)
class Cost:
    """Evaluations of the model that one map takes at most.

    Attributes:
        forward: images whose scores alone are asked for.
        gradient: images whose scores are differentiated with respect to the image (the forward pass is in it).
        at_once: how many of these the method makes in one batch; the rest waits for them.
        per_channel: forward passes for every channel of the model's CAM layer, beside ``forward``; a part of one where
            only what follows the layer is evaluated.
    """

    forward: int = 0
    gradient: int = 0
    at_once: int = 1
    per_channel: float = 0

    def for_channels(self, channels: int) -> Cost:
        """Return the cost on a model whose CAM layer has so many channels.

        >>> Cost(forward=1, per_channel=1).for_channels(64).forward
        65
        """
        return replace(self, forward=self.forward + math.ceil(self.per_channel * channels), per_channel=0)


@dataclass(frozen=True)
class Method:
    """A saliency method.

    Attributes:
        settings: the type of its section ``saliency.<name>`` in params.yaml.
        explain: ``(model, images[N,3,H,W], targets[N], settings, seeds) -> maps[N,h,w]``: float32 maps, row by row
            independent of each other. ``images`` are normalised for the model and float32, ``targets`` are int64
            class indices, ``seeds`` has one integer per row, from which all randomness of that row comes. Maps may be
            smaller than the images; `pipeline.saliency.map_file.enlarge` is then how they are read.
        values: what kind of values its maps have.
        cost: ``settings -> Cost``.
        storage: the type in which its maps are kept on disk; None for what is usual for the kind of values.
        control: whether its maps do not look at the model, so that a method should do better.
        at_layer: whether it reads the model's CAM layer.
    """

    settings: type[MethodSettings]
    explain: Explain
    values: Values
    cost: Callable[[Any], Cost]
    storage: StorageType | None = None
    control: bool = False
    at_layer: bool = False

    def __post_init__(self) -> None:
        """Refuse a type that would cut off values."""
        if self.stored_as not in STORED_AS[self.values]:
            raise ValueError(
                f"found maps of {self.values} values stored as {self.stored_as}; allowed: "
                f"{', '.join(STORED_AS[self.values])}"
            )

    @property
    def stored_as(self) -> StorageType:
        """The type in which its maps are kept."""
        return self.storage or STORED_AS[self.values][0]


METHODS: Registry[Method] = Registry("pipeline.saliency.methods", "METHOD", "saliency method")
