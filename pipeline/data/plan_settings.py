"""How many images are explained, and under which perturbations: the section ``plan`` of params.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from pipeline.core import params
from pipeline.core.errors import UserError, unknown_name
from pipeline.core.params import Count, Percents, Settings, Strings
from pipeline.data.transforms import TRANSFORMS


class PlanSettings(Settings):
    """Which perturbations the test images get.

    Attributes:
        images: how many test images are explained.
        images_of: how many of some datasets, by name, where it is another number.
        first: of some datasets, names of test images that are drawn before all others.
        magnitudes: how many are drawn for every image and transform that has magnitudes.
        transforms: names of the input transforms; none where the images are explained as they are alone.
        checkpoints: percents of a training, after which a checkpoint is explained too.
        layers: of a network that is not trained here: how many of its stages are randomised, one after the other and
            beginning at the classes.
    """

    images: Count
    images_of: dict[str, Count] = Field(default_factory=dict)
    first: dict[str, Strings] = Field(default_factory=dict)
    magnitudes: Annotated[int, Field(ge=1, le=62)]
    transforms: Strings
    checkpoints: Percents
    layers: Annotated[int, Field(ge=0, le=99)] = 0

    def explained(self, dataset: str) -> int:
        """Return how many images of a dataset are explained."""
        return self.images_of.get(dataset, self.images)

    def key(self, dataset: str) -> str:
        """Return the key that says so."""
        return f"plan.images_of.{dataset}" if dataset in self.images_of else "plan.images"


def check_transforms(settings: PlanSettings) -> None:
    """Raise a `UserError` for an unknown or repeated transform, or a repeated checkpoint."""
    where = params.at("plan.transforms")
    for name in settings.transforms:
        if name not in TRANSFORMS:
            raise unknown_name(where, "transform", name, TRANSFORMS)
        if settings.transforms.count(name) > 1:
            raise UserError(where, f"found {name!r} twice", expected="once")
    if len(set(settings.checkpoints)) < len(settings.checkpoints):
        raise UserError(params.at("plan.checkpoints"), "found a percentage twice", expected="each once")


def check_images_of(settings: PlanSettings, datasets: Iterable[str]) -> None:
    """Raise a `UserError` where ``images_of`` or ``first`` names a dataset that is not there."""
    known = list(datasets)
    for key, named in (("images_of", settings.images_of), ("first", settings.first)):
        for name in named:
            if name not in known:
                raise unknown_name(params.at(f"plan.{key}"), "dataset", name, known)


def rows_per_image(settings: PlanSettings, image_size: int, *, trained: bool) -> int:
    """Return how many rows a cell has for every image that is explained.

    Args:
        settings: the plan's.
        image_size: side of the model's input in pixels.
        trained: whether the model is trained here, and so has checkpoints, or is as it comes, and so has states with
            randomised layers.
    """
    transformed = sum(settings.magnitudes if TRANSFORMS[name].ladder(image_size) else 1 for name in settings.transforms)
    return 1 + transformed + 1 + (len(settings.checkpoints) if trained else settings.layers)
