"""XGrad-CAM: channels of one layer, weighted by their gradients where they are active.

Source: R. Fu et al., Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_and_gradients, cost, weighted_map
from pipeline.saliency.method import Method, MethodSettings

EPSILON = 1e-7


class Settings(MethodSettings):
    """XGrad-CAM has nothing to choose but its layer, which belongs to the model (``cam_layer``)."""


def channel_weights(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Return the weight of every channel, (N, C), from activations and gradients (N, C, h, w)."""
    total = activations.sum(dim=(2, 3))
    return (gradients * activations).sum(dim=(2, 3)) / (total + EPSILON)


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps at the layer's own size, float32 (N, h, w) in [0, 1]; nothing is random."""
    activations, gradients = activations_and_gradients(model, images, targets)
    return weighted_map(activations, channel_weights(activations, gradients))


METHOD = Method(Settings, explain, "unit", cost, storage="float32", at_layer=True)
