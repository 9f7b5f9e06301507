"""Integrated gradients along a path of images that are blurred ever more.

Source: S. Xu et al., Attribution in Scale and Space, 2020, with the steps of the saliency library. The library blurs
with scipy; here a Gaussian blur is two matrix products, and its derivative along the path three more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from pipeline.core.params import Steps
from pipeline.models.classifier import Classifier
from pipeline.saliency.gradients import Combine, GradientSettings, sum_over_path, to_grayscale
from pipeline.saliency.method import Cost, Method

TRUNCATE = 4.0
"""Where scipy cuts its Gaussian, in standard deviations."""


class Settings(GradientSettings):
    """Sigmas are in pixels: the path ends at ``max_sigma``; ``grad_step`` is the finite difference in sigma."""

    steps: Steps
    max_sigma: Annotated[float, Field(gt=0, le=1000)]
    grad_step: Annotated[float, Field(gt=0, le=10)]


def blur_matrix(size: int, sigma: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the matrix that blurs a column of ``size`` pixels, zeros around it: (size, size) float64."""
    reach = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else np.ones(1)
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    kernel = np.zeros(2 * max(reach, size) + 1)
    kernel[max(reach, size) - reach : max(reach, size) + reach + 1] = weights / weights.sum()
    return kernel[distance + max(reach, size)]


def contributing(settings: Settings) -> list[float]:
    """Return the sigmas of the steps that contribute.

    Where the kernel is a single pixel at both ends of the finite difference, the derivative is exactly zero, and so is
    the contribution: the first step, at sigma 0, is always left out.
    """
    sigmas = [number * settings.max_sigma / settings.steps for number in range(settings.steps)]
    return [sigma for sigma in sigmas if int(TRUNCATE * (sigma + settings.grad_step) + 0.5) > 0]


@lru_cache(maxsize=4)
def _matrices(size: int, settings: Settings, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return blurs B, their neighbours N at sigma + grad_step, and (N - B) / grad_step, float32 (steps, 1, H, H)."""
    sigmas = contributing(settings)
    now, next_ = (
        np.stack([blur_matrix(size, sigma + offset) for sigma in sigmas] or [np.eye(size)])
        for offset in (0.0, settings.grad_step)
    )
    # The difference of nearly equal numbers is taken here, in float64; what remains has no cancellation left.
    slope = (next_ - now) / settings.grad_step
    made = (torch.from_numpy(matrices).to(device, torch.float32)[:, None] for matrices in (now, next_, slope))
    return tuple(made)  # type: ignore[return-value]


def attribute(model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return the attribution of every channel of every pixel, float64 (N, 3, H, W).

    With X the image, N X N' - B X B' = (N - B) X N' + B X (N - B)'.
    """
    now, _, slope_down = _matrices(images.shape[-2], settings, images.device)
    across, across_next, slope_across = _matrices(images.shape[-1], settings, images.device)
    exact = images.contiguous()

    def step(rows: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, Combine]:
        chosen = exact[rows]
        half = now[steps] @ chosen
        blurred = half @ across[steps].mT
        derivative = (slope_down[steps] @ chosen) @ across_next[steps].mT + half @ slope_across[steps].mT
        return blurred, lambda gradients: derivative * gradients

    total = sum_over_path(model, images, targets, settings.score, steps=len(contributing(settings)), step=step)
    return -total * (settings.max_sigma / settings.steps)


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; nothing is random."""
    return to_grayscale(attribute(model, images, targets, settings), settings.percentile)


def cost(settings: Settings) -> Cost:
    """One gradient per step that contributes."""
    steps = max(1, len(contributing(settings)))
    return Cost(gradient=steps, at_once=steps)


METHOD = Method(Settings, explain, "unit", cost)
