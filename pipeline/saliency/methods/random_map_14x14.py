"""A control: noise on a grid of 14 by 14, enlarged when it is read.

As smooth as the maps of a CAM layer of that size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.controls import cost, random_maps
from pipeline.saliency.method import Method, MethodSettings

SIDE = 14


class Settings(MethodSettings):
    """There is nothing to choose."""


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, 14, 14), or as large as an image that is smaller, each from its row's seed."""
    return random_maps(seeds, min(SIDE, images.shape[-1]), images.device)


METHOD = Method(Settings, explain, "unit", cost, storage="float32", control=True)
