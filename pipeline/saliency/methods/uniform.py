"""A control that says nothing: one everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.controls import NoSettings, cost
from pipeline.saliency.method import Method


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: NoSettings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W); a smaller map of ones would be enlarged to zeros."""
    return images.new_ones((len(images), *images.shape[2:]))


METHOD = Method(NoSettings, explain, "unit", cost, control=True)
