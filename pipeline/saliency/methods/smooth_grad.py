"""SmoothGrad: the mean of the (squared) gradients at noisy copies of the image.

Source: D. Smilkov et al., SmoothGrad: removing noise by adding noise, 2017; the saliency library squares by default,
and so does the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, StrictBool

from pipeline.core.params import Steps
from pipeline.models.classifier import Classifier
from pipeline.saliency.gradients import Combine, GradientSettings, sum_over_path, to_grayscale
from pipeline.saliency.method import Cost, Method


class Settings(GradientSettings):
    """``noise`` is the standard deviation as a part of the image's (max - min), in normalised space."""

    samples: Steps
    noise: Annotated[float, Field(ge=0, le=100)]
    squared: StrictBool


def draw_noise(shape: torch.Size, samples: int, seed: int) -> torch.Tensor:
    """Return standard normal noise, float32 (samples, 3, H, W): the same for a seed on every device."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((samples, *shape), dtype=np.float32))


def attribute(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, *, noise: torch.Tensor
) -> torch.Tensor:
    """Return the attribution of every channel of every pixel.

    Args:
        model: in evaluation mode.
        images: (N, 3, H, W).
        targets: (N,).
        settings: see `Settings`.
        noise: standard normal, float32 (N, samples, 3, H, W).

    Returns:
        float64 (N, 3, H, W).
    """
    flat = images.flatten(1)
    spread = settings.noise * (flat.max(dim=1).values - flat.min(dim=1).values)

    def step(rows: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, Combine]:
        noisy = images[rows] + spread[rows].view(-1, 1, 1, 1) * noise[rows, steps]
        return noisy, (lambda gradients: gradients**2) if settings.squared else (lambda gradients: gradients)

    return sum_over_path(model, images, targets, settings.score, steps=settings.samples, step=step) / settings.samples


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; each row's noise comes from its seed."""
    noise = torch.stack([draw_noise(images.shape[1:], settings.samples, seed) for seed in seeds]).to(images.device)
    return to_grayscale(attribute(model, images, targets, settings, noise=noise), settings.percentile)


def cost(settings: Settings) -> Cost:
    """One gradient per sample."""
    return Cost(gradient=settings.samples, at_once=settings.samples)


METHOD = Method(Settings, explain, "unit", cost)
