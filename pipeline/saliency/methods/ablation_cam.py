"""Ablation-CAM: channels of one layer, weighted by what the class logit loses without them.

Source: H. G. Ramaswamy et al., Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
Localization, 2020. A channel without effect is zero everywhere, as there. Of tokens, those of the grid lose the
channel; the class token and registers keep it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.core.batches import batches
from pipeline.models.classifier import Classifier
from pipeline.models.tail import Tail, tail
from pipeline.saliency.cams import weighted_map
from pipeline.saliency.method import ONE_ROW, Cost, Method, MethodSettings

TAILS = 8
"""Evaluations of what follows the layer that are taken to weigh as much as a forward pass, in time and in memory."""

EPSILON = 1e-7


class Settings(MethodSettings):
    """Ablation-CAM has nothing to choose but its layer, which belongs to the model (``cam_layer``)."""


def channel_weights(model: Classifier, after: Tail, target: int, image_size: int) -> torch.Tensor:
    """Return the weight of every channel, (y - y_k) / y, float32 (C,).

    The magnitude of y only scales the map, which is scaled anyway: one that is next to zero is raised to `EPSILON`.
    The sign counts: where the logit is negative, so are the weights of channels that raise it.

    Args:
        model: in evaluation mode.
        after: what follows its CAM layer, for one image.
        target: the class.
        image_size: side of the image in pixels.
    """
    channels = model.grid(after.activations).shape[1]
    without = []
    for part in batches(-(-channels // TAILS), image_size, after.activations.device):
        chosen = torch.arange(part.start * TAILS, min(part.stop * TAILS, channels))
        ablated = torch.cat([after.activations] * len(chosen))  # unlike repeat(), keeps how it lies in memory
        model.grid(ablated)[torch.arange(len(chosen)), chosen] = 0
        without.append(after.evaluate(ablated)[:, target])
    score = after.logits[0, target]
    divisor = torch.where(score < 0, -1.0, 1.0) * score.abs().clamp(min=EPSILON)
    return (score - torch.cat(without)) / divisor


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps at the layer's own size, float32 (N, h, w) in [0, 1]; nothing is random."""
    maps = []
    for image, target in zip(images.split(1), targets.tolist(), strict=True):
        after = tail(model, image)
        weights = channel_weights(model, after, target, image.shape[-1])
        maps.append(weighted_map(model.grid(after.activations), weights[None]))
    return torch.cat(maps)


def cost(settings: Settings) -> Cost:
    """A forward pass, and what follows the layer for every channel."""
    return Cost(forward=1, per_channel=1 / TAILS, at_once=ONE_ROW)


METHOD = Method(Settings, explain, "unit", cost, storage="float32", at_layer=True)
