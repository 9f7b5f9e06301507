"""Guided integrated gradients: a path that first moves the pixels whose gradients are small.

Source: A. Kapishnikov et al., Guided Integrated Gradients, 2021, with the steps of the saliency library. The path
depends on the rank of gradients, so a difference in their last bit can change it: state is kept in float64, ties are
taken together, and the threshold is a value of the data (no interpolation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import Field

from pipeline.attribution import GradientSettings, gradient, grey_map
from pipeline.models import Classifier
from pipeline.params import Count
from pipeline.registry import Method

CLOSE = 1e-9
"""Relative and absolute tolerance at which a step's distance counts as reached."""

CACHE = 2**17
"""Numbers per array that are moved at a time on a CPU."""

Gradient = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Settings(GradientSettings):
    """``fraction`` of the pixels move at a time; none strays further than ``max_dist`` from the straight line."""

    steps: Count
    baseline: float
    fraction: Annotated[float, Field(gt=0, le=1)]
    max_dist: Annotated[float, Field(ge=0, le=1)]


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).abs().sum(dim=1)


def _step(
    x: torch.Tensor,
    slope: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    target: torch.Tensor,
    alphas: tuple[float, float],
    fraction: float,
) -> torch.Tensor:
    """Move each row until its distance from the end is ``target``; return what the moves attribute.

    Args:
        x: the rows' points, (N, D) float64; moved in place.
        slope: gradients at the points, (N, D).
        start: baseline, (N, D).
        end: image, (N, D).
        target: distance to reach, (N,).
        alphas: least and greatest position along the straight line.
        fraction: part of the features that move at a time.
    """
    span = end - start
    x_min, x_max = start + span * alphas[0], start + span * alphas[1]
    size = slope.abs()
    attribution = torch.zeros_like(x)
    kth = int(fraction * (x.shape[1] - 1)) + 1
    active = torch.arange(len(x), device=x.device)
    while len(active):
        old = x[active]
        line = torch.where(span[active] != 0, (old - start[active]) / span[active], alphas[1])
        now = torch.where(line < alphas[0], x_min[active], old)
        current = _distance(now, end[active])
        tolerance = torch.clamp(CLOSE * torch.maximum(current.abs(), target[active].abs()), min=CLOSE)
        reached = (current - target[active]).abs() <= tolerance

        # A feature at its limit is out of the race for the rest of the step.
        size[active] = torch.where(now == x_max[active], torch.inf, size[active])
        ranked = size[active]
        threshold = ranked.kthvalue(kth, dim=1, keepdim=True).values
        chosen = (ranked <= threshold) & (ranked != torch.inf)
        reach = ((now - x_max[active]).abs() * chosen).sum(dim=1)
        gamma = torch.where(reach > 0, (current - target[active]) / reach, torch.inf)
        part = gamma[:, None]
        moved = torch.where(part > 1, x_max[active], now + (x_max[active] - now) * part)
        now = torch.where(chosen & ~reached[:, None], moved, now)

        x[active] = now
        attribution[active] += (now - old) * slope[active]
        # With nothing left to choose the distance is as small as it can get.
        active = active[~reached & (gamma > 1) & chosen.any(dim=1)]
    return attribution


def guided_path(
    images: torch.Tensor, gradients: Gradient, steps: int, baseline: float, fraction: float, max_dist: float
) -> torch.Tensor:
    """Follow the path of every row.

    Args:
        images: the ends of the paths, (N, ...) of any shape.
        gradients: ``(points, rows) -> gradients``, for float64 points shaped like the images and the row each
            belongs to.
        steps: steps of the path.
        baseline: where it starts, the same value everywhere.
        fraction: part of the features moved at a time.
        max_dist: how far a feature may stray from the straight line, as a part of its length.

    Returns:
        The attributions, float64, shaped like the images.
    """
    end = images.double().flatten(1)
    start = torch.full_like(end, baseline)
    x = start.clone()
    total = _distance(end, start)
    attribution = torch.zeros_like(end)
    rows = torch.arange(len(end), device=end.device)[total > 0]
    chunk = max(1, CACHE // end.shape[1]) if end.device.type == "cpu" else len(end)
    for number in range(1, steps + 1):
        if not len(rows):
            break
        slope = gradients(x[rows].view(-1, *images.shape[1:]), rows).double().flatten(1)
        alpha = number / steps
        alphas = (max(alpha - max_dist, 0.0), min(alpha + max_dist, 1.0))
        # Few rows at a time: their state then stays in the cache, which halves the time on a CPU.
        for part in torch.arange(len(rows), device=end.device).split(chunk):
            at = rows[part]
            points = x[at]
            target = total[at] * (1 - number / steps)
            attribution[at] += _step(points, slope[part], start[at], end[at], target, alphas, fraction)
            x[at] = points
    return attribution.view(images.shape)


def attribute(model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return the attribution of every channel of every pixel, float64 (N, 3, H, W)."""

    def gradients(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return gradient(model, points.to(images.dtype), targets[rows], settings.score)

    return guided_path(images, gradients, settings.steps, settings.baseline, settings.fraction, settings.max_dist)


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; nothing is random."""
    return grey_map(attribute(model, images, targets, settings), settings.percentile)


METHOD = Method(Settings, explain, "float16")
