"""A control: a Gaussian in the middle of the image, where photographers put things."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.core.params import Positive
from pipeline.models.classifier import Classifier
from pipeline.saliency.controls import cost
from pipeline.saliency.method import Method, MethodSettings


class Settings(MethodSettings):
    """``sigma`` is the Gaussian's standard deviation, as a part of the image's side."""

    sigma: Positive = 0.25


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; all are the same, and 1 is at the very centre."""
    side = images.shape[-1]
    offsets = (torch.arange(side, device=images.device, dtype=torch.float64) + 0.5) / side - 0.5
    profile = torch.exp(-0.5 * (offsets / settings.sigma) ** 2)
    return torch.outer(profile, profile).float().repeat(len(images), 1, 1)


METHOD = Method(Settings, explain, "unit", cost, storage="float16", control=True)
