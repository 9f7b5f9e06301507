"""Score-CAM: channels of one layer, weighted by the class score of the image where each is active.

Source: H. Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks, 2020. The
weights are a softmax over the channels of the score, so that what is subtracted from all scores does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from pipeline.core.batches import batches
from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_alone, weighted_map
from pipeline.saliency.gradients import Score
from pipeline.saliency.masks import Masked, apply_masks
from pipeline.saliency.method import ONE_ROW, Cost, Method, MethodSettings

FLAT = 1e-6
"""Part of a channel's greatest magnitude by which its values may differ from each other by rounding alone."""


class Settings(MethodSettings):
    """``score`` of the masked images: the logit, or the softmax score as in the authors' code; see `Masked`."""

    score: Score
    masked: Masked


def channel_masks(channels: torch.Tensor, side: int) -> torch.Tensor:
    """Return channels enlarged bilinearly and scaled to [0, 1]; a flat one hides everything.

    Args:
        channels: (C, h, w).
        side: of the masks, in pixels.

    Returns:
        (C, side, side).
    """
    span = channels.amax(dim=(1, 2)) - channels.amin(dim=(1, 2))
    flat = span <= FLAT * channels.abs().amax(dim=(1, 2))
    large = F.interpolate(channels[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    low, high = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
    return torch.where(flat[:, None, None] | (low == high), 0.0, (large - low) / (high - low))


def channel_scores(
    model: Classifier, image: torch.Tensor, channels: torch.Tensor, target: int, *, settings: Settings
) -> torch.Tensor:
    """Return the class score of an image (1, 3, H, W) under the mask of every channel (C, h, w): float32 (C,)."""
    side = image.shape[-1]
    scores = []
    with torch.inference_mode():
        for part in batches(len(channels), side, image.device):
            inputs = apply_masks(model, image, channel_masks(channels[part], side), settings.masked)
            logits = model(inputs)
            scores.append((logits.softmax(dim=1) if settings.score == "softmax" else logits)[:, target])
    return torch.cat(scores)


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps at the layer's own size, float32 (N, h, w) in [0, 1]; nothing is random."""
    maps = []
    for image, target in zip(images.split(1), targets.tolist(), strict=True):
        activations = activations_alone(model, image)
        scores = channel_scores(model, image, activations[0], target, settings=settings)
        maps.append(weighted_map(activations, scores.softmax(dim=0)[None]))
    return torch.cat(maps)


def cost(settings: Settings) -> Cost:
    """A forward pass for the channels, and one for each of them."""
    return Cost(forward=1, per_channel=1, at_once=ONE_ROW)


METHOD = Method(Settings, explain, "unit", cost, storage="float32", at_layer=True)
