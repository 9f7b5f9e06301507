"""Grad-CAM: channels of one layer, weighted by the mean gradient of the class logit.

Source: R. Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_and_gradients, cost, weighted_map
from pipeline.saliency.method import Method, MethodSettings


class Settings(MethodSettings):
    """Grad-CAM has nothing to choose but its layer, which belongs to the model (``cam_layer``)."""


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps at the layer's own size, float32 (N, h, w) in [0, 1]; nothing is random."""
    activations, gradients = activations_and_gradients(model, images, targets)
    return weighted_map(activations, gradients.mean(dim=(2, 3)))


METHOD = Method(Settings, explain, "unit", cost, storage="float32", at_layer=True)
