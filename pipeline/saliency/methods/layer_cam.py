"""Layer-CAM: every place of every channel of one layer, weighted by its own positive gradient.

Source: P.-T. Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, 2021. Without the
tanh by which the authors scale the maps of shallow layers, as in grad-cam.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_and_gradients, cost, scaled_map
from pipeline.saliency.method import Method, MethodSettings


class Settings(MethodSettings):
    """Layer-CAM has nothing to choose but its layer, which belongs to the model (``cam_layer``)."""


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps at the layer's own size, float32 (N, h, w) in [0, 1]; nothing is random."""
    activations, gradients = activations_and_gradients(model, images, targets)
    return scaled_map((gradients.relu() * activations).sum(dim=1))


METHOD = Method(Settings, explain, "unit", cost, storage="float32", at_layer=True)
