"""Guided integrated gradients: a path that first moves the pixels whose gradients are small.

Source: A. Kapishnikov et al., Guided Integrated Gradients, 2021, with the steps of the saliency library. The path
depends on the rank of gradients, so a difference in their last bit can change it: state is kept in float64, ties are
taken together, and the threshold is a value of the data (no interpolation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from pipeline.core.params import Steps
from pipeline.models.classifier import Classifier
from pipeline.saliency.gradients import Baseline, GradientSettings, gradient, to_grayscale
from pipeline.saliency.method import Cost, Method

CLOSE = 1e-9
"""Relative and absolute tolerance at which a step's distance counts as reached."""

CACHE = 2**17
"""Numbers per array that are moved at a time on a CPU."""

Gradient = Callable[[torch.Tensor], torch.Tensor]


class Settings(GradientSettings):
    """``fraction`` of the pixels move at a time; none strays further than ``max_dist`` from the straight line."""

    steps: Steps
    baseline: Baseline
    fraction: Annotated[float, Field(gt=0, le=1)]
    max_dist: Annotated[float, Field(ge=0, le=1)]


def _kth_smallest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th smallest value (from 1) of each row, (N, 1): a value of the data, never an average of two."""
    if values.device.type == "cpu":  # numpy's selection is two to three times as fast as torch's there
        return torch.from_numpy(np.partition(values.numpy(), k - 1, axis=1)[:, k - 1 : k])
    return values.kthvalue(k, dim=1, keepdim=True).values


def _advance(
    left: torch.Tensor, size: torch.Tensor, most: torch.Tensor, least: torch.Tensor, *, target: torch.Tensor, kth: int
) -> None:
    """Move the features of each row towards the end until their distances add up to ``target``.

    Group after group of those with the smallest gradients moves as far as it may; the last one moves part of the way.

    Args:
        left: the features' distances from the end, (N, D) float64; changed in place.
        size: magnitudes of the gradients, (N, D); overwritten.
        most: greatest distances allowed now, (N, D): features that lag behind the straight line catch up first.
        least: smallest distances allowed now, (N, D).
        target: the sum to reach, (N,).
        kth: features in a group, those that do not move counted last.
    """
    torch.minimum(left, most, out=left)
    room = left - least
    size.masked_fill_(room <= 0, torch.inf)
    room.clamp_(min=0)
    current = left.sum(dim=1)
    active = torch.ones(len(left), dtype=torch.bool, device=left.device)
    while True:
        tolerance = torch.clamp(CLOSE * torch.maximum(current, target), min=CLOSE)
        active &= (current - target).abs() > tolerance
        chosen = size <= _kth_smallest(size, kth)
        move = room * chosen
        reach = move.sum(dim=1)
        active &= reach > 0  # with nothing left to move the sum is as small as it can get
        part = torch.where(active, ((current - target) / reach).clamp(max=1), 0.0)
        left.addcmul_(move, part[:, None], value=-1)
        active &= part == 1
        if not active.any():
            return
        current -= reach * part
        room -= move
        size.masked_fill_(chosen, torch.inf)


def guided_path(
    images: torch.Tensor, gradients: Gradient, steps: int, baseline: float, *, fraction: float, max_dist: float
) -> torch.Tensor:
    """Follow the path of every row.

    Where a feature is, is told by its distance from the end of the path: it shrinks from the length of the way to 0,
    on whichever side of the end the path begins.

    Args:
        images: the ends of the paths, (N, ...) of any shape.
        gradients: ``points -> gradients``, for float64 points shaped like the images.
        steps: steps of the path.
        baseline: where it starts, the same value everywhere.
        fraction: part of the features moved at a time.
        max_dist: how far a feature may stray from the straight line, as a part of its length.

    Returns:
        The attributions, float64, shaped like the images.
    """
    end = images.double().flatten(1)
    side, length = (end - baseline).sign(), (end - baseline).abs()
    left = length.clone()
    total = length.sum(dim=1)
    attribution = torch.zeros_like(end)
    kth = int(fraction * (end.shape[1] - 1)) + 1
    # Few rows at a time: their state then stays in the cache, which halves the time on a CPU.
    chunk = max(1, CACHE // end.shape[1]) if end.device.type == "cpu" else len(end)
    for number in range(1, steps + 1):
        points = torch.addcmul(end, side, left, value=-1)
        slope = gradients(points.view(images.shape)).flatten(1)
        alpha = number / steps
        behind, ahead = max(alpha - max_dist, 0.0), min(alpha + max_dist, 1.0)
        for start in range(0, len(end), chunk):
            rows = slice(start, start + chunk)
            before = left[rows].clone()
            most, least = length[rows] * (1 - behind), length[rows] * (1 - ahead)
            _advance(left[rows], slope[rows].abs(), most, least, target=total[rows] * (1 - alpha), kth=kth)
            before -= left[rows]
            before *= side[rows]
            attribution[rows].addcmul_(before, slope[rows].double())
    return attribution.view(images.shape)


def attribute(model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return the attribution of every channel of every pixel, float64 (N, 3, H, W)."""

    def gradients(points: torch.Tensor) -> torch.Tensor:
        return gradient(model, points.to(images.dtype), targets, settings.score)

    return guided_path(
        images, gradients, settings.steps, settings.baseline, fraction=settings.fraction, max_dist=settings.max_dist
    )


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; nothing is random."""
    return to_grayscale(attribute(model, images, targets, settings), settings.percentile)


def cost(settings: Settings) -> Cost:
    """One gradient per step, each where the one before led to."""
    return Cost(gradient=settings.steps)


METHOD = Method(Settings, explain, "unit", cost)
