"""Integrated gradients along the straight line from a baseline.

Source: M. Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017; steps as in the saliency library
(both ends in, plain mean).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.attribution import Combine, GradientSettings, grey_map, sum_over_path
from pipeline.models import Classifier
from pipeline.params import Count
from pipeline.registry import Method


class Settings(GradientSettings):
    """``baseline`` is a value in normalised space: 0 is the mean image."""

    steps: Count
    baseline: float


def attribute(model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return the attribution of every channel of every pixel, float64 (N, 3, H, W).

    Its sum approaches the score at the image minus the score at the baseline as the steps increase (completeness).
    """
    alphas = torch.linspace(0, 1, settings.steps, dtype=torch.float64, device=images.device)
    difference = images.double() - settings.baseline

    def step(rows: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, Combine]:
        return settings.baseline + alphas[steps].view(-1, 1, 1, 1) * difference[rows], lambda gradients: gradients

    total = sum_over_path(model, images, targets, settings.score, settings.steps, step)
    return total * difference / settings.steps


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; nothing is random."""
    return grey_map(attribute(model, images, targets, settings), settings.percentile)


METHOD = Method(Settings, explain, "float16")
