"""What the gradient methods share: gradients of a class score, sums over a path, and maps made from them.

Everything is batched over rows and over the steps of each row's path, and each row's sum is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field

from pipeline.core.batches import batches
from pipeline.models.classifier import Classifier
from pipeline.saliency.method import MethodSettings

Baseline = Annotated[float, Field(ge=-100, le=100)]
Score = Literal["softmax", "logit"]
Combine = Callable[[torch.Tensor], torch.Tensor]
Step = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, Combine]]


class GradientSettings(MethodSettings):
    """What every gradient method can be told: the score it differentiates, and where its map is clipped."""

    score: Score
    percentile: Annotated[float, Field(gt=0, le=100)]


def _gradient_of_batch(model: Classifier, images: torch.Tensor, targets: torch.Tensor, score: Score) -> torch.Tensor:
    inputs = images.detach().clone(memory_format=torch.channels_last).requires_grad_()
    with torch.enable_grad():
        logits = model(inputs)
        values = logits.softmax(dim=1) if score == "softmax" else logits
        chosen = values.gather(1, targets[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, inputs)
    return gradient


def gradient(model: Classifier, images: torch.Tensor, targets: torch.Tensor, score: Score) -> torch.Tensor:
    """Return the gradient of each image's class score with respect to that image.

    Args:
        model: in evaluation mode.
        images: float32 (N, 3, H, W), normalised.
        targets: int64 (N,), class indices.
        score: the softmax score (as in the paper) or the logit of the class.

    Returns:
        float32 (N, 3, H, W).
    """
    parts = batches(len(images), images.shape[-1], images.device)
    return torch.cat([_gradient_of_batch(model, images[part], targets[part], score) for part in parts])


def sum_over_path(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, score: Score, *, steps: int, step: Step
) -> torch.Tensor:
    """Evaluate the gradient at every step of every row's path and add up what each gives.

    Args:
        model: in evaluation mode.
        images: (N, 3, H, W); only their number and shape are used.
        targets: int64 (N,).
        score: what to differentiate.
        steps: steps of each path.
        step: ``(rows, steps) -> (inputs, combine)``, for two int64 vectors of length B: the inputs (B, 3, H, W) at
            those steps of those rows, and a function that turns their gradients, float64, into what is added.

    Returns:
        float64 (N, 3, H, W), the sums.
    """
    total = torch.zeros(images.shape, dtype=torch.float64, device=images.device)
    pairs = torch.arange(len(images) * steps, device=images.device)
    for part in batches(len(pairs), images.shape[-1], images.device) if len(pairs) else []:
        rows = pairs[part] // steps
        inputs, combine = step(rows, pairs[part] % steps)
        gradients = _gradient_of_batch(model, inputs.to(images.dtype), targets[rows], score)
        # One after the other: on a GPU, adding them all at once (`index_add_`) has no fixed order.
        for number, given in zip(range(part.start, part.stop), combine(gradients.double()), strict=True):
            total[number // steps] += given
    return total


def to_grayscale(attribution: torch.Tensor, percentile: float) -> torch.Tensor:
    """Return one channel in [0, 1] from an attribution per channel, as the paper draws it.

    The absolute values are added over the channels; the least becomes 0, the given percentile and all above it 1.
    An attribution that is equal everywhere gives zeros.

    Args:
        attribution: (N, C, H, W).
        percentile: in (0, 100], interpolated linearly.

    Returns:
        float32 (N, H, W).

    Source: `VisualizeImageGrayscale` of the saliency library.
    """
    grey = attribution.double().abs().sum(dim=1)
    flat = grey.flatten(1)
    low = flat.min(dim=1).values[:, None, None]
    high = torch.quantile(flat, percentile / 100, dim=1)[:, None, None]
    span = torch.where(high > low, high - low, torch.ones_like(low))
    scaled = torch.where(high > low, (grey - low) / span, (grey > low).double())
    return scaled.clamp(0, 1).float()
