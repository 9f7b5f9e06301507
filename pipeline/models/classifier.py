"""A network behind one contract: normalised images in, logits out, and a layer to read class activation maps from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.data.decode import Pixels
from pipeline.models import cam_layer
from pipeline.models.cam_layer import CamLayer


class Classifier(nn.Module):
    """A network with its preprocessing and its CAM layer.

    Its inputs are normalised: float32 (N, 3, H, W), see `normalize`. Its outputs are logits (N, classes).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], cam: CamLayer) -> None:
        """Wrap a network.

        Args:
            network: maps (N, 3, H, W) to logits (N, classes).
            mean: of the channels of its inputs, in [0, 1].
            std: deviation likewise.
            cam: its CAM layer.

        Raises:
            UserError: the network has no layer at the path of ``cam``.
        """
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.cam = cam
        self.cam_layer = cam_layer.layer_at(network, self.cam.path)
        # What a method computed from the weights alone; gone when they change.
        self.cache: dict[Any, torch.Tensor] = {}

    def train(self, mode: bool = True) -> Classifier:
        """Switch to training or, with ``mode=False``, evaluation."""
        self.cache.clear()
        return super().train(mode)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of normalised images."""
        logits: torch.Tensor = self.network(images)
        return logits

    def normalize(self, pixels: Pixels) -> torch.Tensor:
        """Return uint8 images (N, H, W, 3) as the network's input on the network's device.

        The channels stay last in memory, where convolutions are fastest.
        """
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.mean.device).permute(0, 3, 1, 2)
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std

    def pixels(self, images: torch.Tensor) -> Pixels:
        """Return normalised images as uint8 (N, H, W, 3): the inverse of `normalize`."""
        scaled = (images.detach() * self.std + self.mean) * 255
        rounded = scaled.round().clamp(0, 255).to(torch.uint8)
        return rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def grid(self, activations: torch.Tensor) -> torch.Tensor:
        """Return what the CAM layer gave as (N, C, h, w).

        Tokens are laid out row by row; tokens before the grid (class, registers) are dropped.

        Raises:
            UserError: the activations do not have the layout that params.yaml names.
        """
        if self.cam.layout == "tokens" and activations.ndim == 3:
            side = self.cam.side or math.isqrt(activations.shape[1])
            patches = activations[:, -side * side :]
            return patches.transpose(1, 2).unflatten(2, (side, side))
        if self.cam.layout == "channels_last" and activations.ndim == 4:
            return activations.permute(0, 3, 1, 2)
        if self.cam.layout == "channels_first" and activations.ndim == 4:
            return activations
        raise UserError(
            params.at("models.*.cam_layout"),
            f"found {self.cam.layout!r} for layer {self.cam.path}, whose output has shape {tuple(activations.shape)}",
        )

    def classifier(self) -> nn.Module:
        """Return the part behind the features: what is trained where the backbone is frozen.

        Raises:
            UserError: timm knows of none, or of several.
        """
        return cam_layer.layer_at(self.network, classifier_path(self.network))

    def classifier_weights(self) -> set[str]:
        """Return the names of the weights behind the features among the network's."""
        prefixes = self.classifier_prefixes()
        return {name for name in self.network.state_dict() if name.startswith(prefixes)}

    def classifier_prefixes(self) -> tuple[str, ...]:
        """Return what the names of weights behind the features begin with, whatever layers are there."""
        return tuple(f"{path}." for path in classifier_paths(self.network))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the classifier is given for normalised images, (N, F)."""
        kept: list[torch.Tensor] = []

        def note(layer: nn.Module, inputs: Any) -> None:
            kept.append(inputs[0])

        handle = self.classifier().register_forward_pre_hook(note)
        try:
            self(images)
        finally:
            handle.remove()
        return kept[0]


def classifier_paths(network: nn.Module) -> tuple[str, ...]:
    """Return where timm says that a network's classifiers are; several for distilled ones."""
    paths = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return (paths,) if isinstance(paths, str) else tuple(paths)


def classifier_path(network: nn.Module) -> str:
    """Return where the one classifier is; it is a linear layer, or our own layers in its place."""
    paths = classifier_paths(network)
    if len(paths) != 1:
        raise UserError(
            params.at("training"),
            f"timm knows {len(paths)} classifiers of this architecture, not one, so it can only be trained as a whole "
            "and without hidden layers",
            expected="head: [] and backbone: trained",
        )
    layer = cam_layer.layer_at(network, paths[0])
    if not isinstance(layer, nn.Linear | nn.Sequential):
        raise UserError(
            params.at("training"),
            f"this architecture's classifier is not a linear layer but {type(layer).__name__}",
            expected="head: [] and backbone: trained",
        )
    return paths[0]
