"""A control that says nothing: one everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.controls import cost
from pipeline.saliency.method import Method, MethodSettings


class Settings(MethodSettings):
    """There is nothing to choose."""


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W); a smaller map of ones would be enlarged to zeros."""
    return images.new_ones((len(images), *images.shape[2:]))


METHOD = Method(Settings, explain, "unit", cost, control=True)
