"""Integrated gradients along the straight line from a baseline.

Source: M. Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017; steps as in the saliency library
(both ends in, plain mean).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.core.params import Steps
from pipeline.models.classifier import Classifier
from pipeline.saliency.gradients import Baseline, Combine, GradientSettings, gradient, sum_over_path, to_grayscale
from pipeline.saliency.method import Cost, Method


class Settings(GradientSettings):
    """``baseline`` is a value in normalised space: 0 is the mean image."""

    steps: Steps
    baseline: Baseline


CACHED = 64
"""Gradients at the baseline that are kept; a plan's rows are ordered by image, so their classes come in runs."""


def _at_baseline(model: Classifier, like: torch.Tensor, targets: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return the gradients at the baseline, which depend on the class alone: each is asked for once, by itself."""
    found: dict[int, torch.Tensor] = {}
    for target in targets.unique().tolist():
        key = ("at baseline", settings.baseline, settings.score, like.shape[1:], target)
        known = model.cache.get(key)  # other threads add and drop
        if known is None:
            baseline = torch.full_like(like[:1], settings.baseline)
            known = gradient(model, baseline, targets.new_tensor([target]), settings.score)[0]
            for oldest in list(model.cache)[: -CACHED + 1]:
                model.cache.pop(oldest, None)
            model.cache[key] = known
        found[target] = known
    return torch.stack([found[target] for target in targets.tolist()])


def attribute(model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return the attribution of every channel of every pixel, float64 (N, 3, H, W).

    Its sum approaches the score at the image minus the score at the baseline as the steps increase (completeness).
    """
    alphas = torch.linspace(0, 1, settings.steps, dtype=torch.float64, device=images.device)
    difference = images.double() - settings.baseline

    def step(rows: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, Combine]:
        return settings.baseline + alphas[1:][steps].view(-1, 1, 1, 1) * difference[rows], lambda gradients: gradients

    total = sum_over_path(model, images, targets, settings.score, steps=settings.steps - 1, step=step)
    total += _at_baseline(model, images, targets, settings)
    return total * difference / settings.steps


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; nothing is random."""
    return to_grayscale(attribute(model, images, targets, settings), settings.percentile)


def cost(settings: Settings) -> Cost:
    """One gradient per step but the first, which rows share."""
    return Cost(gradient=max(1, settings.steps - 1), at_once=max(1, settings.steps - 1))


METHOD = Method(Settings, explain, "unit", cost)
