"""Eigen-Grad-CAM: where one layer's activations times their gradients vary most.

Source: Eigen-CAM (M. Muhammad and M. Yeasin, 2020) on the product of activations and gradients of the class logit, a
variant of grad-cam's. The strongest value is positive.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_and_gradients, cost, principal_map, scaled_map
from pipeline.saliency.method import Method, MethodSettings


class Settings(MethodSettings):
    """Eigen-Grad-CAM has nothing to choose but its layer, which belongs to the model (``cam_layer``)."""


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps at the layer's own size, float32 (N, h, w) in [0, 1]; nothing is random."""
    activations, gradients = activations_and_gradients(model, images, targets)
    return scaled_map(principal_map(activations * gradients))


METHOD = Method(Settings, explain, "unit", cost, storage="float32", at_layer=True)
