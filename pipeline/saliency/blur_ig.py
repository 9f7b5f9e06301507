"""Integrated gradients along a path of images that are blurred ever more.

Source: S. Xu et al., Attribution in Scale and Space, 2020, with the steps of the saliency library. The library blurs
with scipy; here a Gaussian blur is two matrix products, and the derivative along the path is taken in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from pipeline.attribution import Combine, GradientSettings, grey_map, sum_over_path
from pipeline.models import Classifier
from pipeline.params import Count, Positive
from pipeline.registry import Method

TRUNCATE = 4.0
"""Where scipy cuts its Gaussian, in standard deviations."""


class Settings(GradientSettings):
    """Sigmas are in pixels: the path ends at ``max_sigma``; ``grad_step`` is the finite difference in sigma."""

    steps: Count
    max_sigma: Positive
    grad_step: Positive


def blur_matrix(size: int, sigma: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the matrix that blurs a column of ``size`` pixels, zeros around it: (size, size) float64."""
    reach = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else np.ones(1)
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    kernel = np.zeros(2 * max(reach, size) + 1)
    kernel[max(reach, size) - reach : max(reach, size) + reach + 1] = weights / weights.sum()
    return kernel[distance + max(reach, size)]


@lru_cache(maxsize=4)
def _matrices(height: int, width: int, settings: Settings) -> tuple[list[int], list[torch.Tensor]]:
    """Return the steps that contribute, and the blurs across and down at sigma and at sigma + grad_step.

    Where the kernel is a single pixel at both sigmas the derivative is exactly zero, and so is the contribution: the
    first step, at sigma 0, is always left out.
    """
    sigmas = [number * settings.max_sigma / settings.steps for number in range(settings.steps)]
    kept = [i for i, sigma in enumerate(sigmas) if int(TRUNCATE * (sigma + settings.grad_step) + 0.5) > 0]
    matrices = [
        torch.from_numpy(np.stack([blur_matrix(size, sigmas[i] + offset) for i in kept] or [np.eye(size)]))
        for size in (height, width)
        for offset in (0.0, settings.grad_step)
    ]
    return kept, matrices


def attribute(model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return the attribution of every channel of every pixel, float64 (N, 3, H, W)."""
    kept, matrices = _matrices(*images.shape[-2:], settings)
    down, down_next, across, across_next = (matrix.to(images.device)[:, None] for matrix in matrices)
    exact = images.double()

    def step(rows: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, Combine]:
        blurred = down[steps] @ exact[rows] @ across[steps].mT
        derivative = (down_next[steps] @ exact[rows] @ across_next[steps].mT - blurred) / settings.grad_step
        return blurred, lambda gradients: derivative * gradients

    total = sum_over_path(model, images, targets, settings.score, len(kept), step)
    return -total * (settings.max_sigma / settings.steps)


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; nothing is random."""
    return grey_map(attribute(model, images, targets, settings), settings.percentile)


METHOD = Method(Settings, explain, "float16")
