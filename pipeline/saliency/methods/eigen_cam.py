"""Eigen-CAM: where one layer's activations vary most, whatever the class.

Source: M. Muhammad and M. Yeasin, Eigen-CAM: Class Activation Map using Principal Components, 2020, with the channels
centred as in grad-cam. Which end of the component is shown is left to chance there, and may be the background; here
the strongest value is positive.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_alone, cost, principal_map, scaled_map
from pipeline.saliency.method import Method, MethodSettings


class Settings(MethodSettings):
    """Eigen-CAM has nothing to choose but its layer, which belongs to the model (``cam_layer``)."""


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps at the layer's own size, float32 (N, h, w) in [0, 1]; nothing is random."""
    return scaled_map(principal_map(activations_alone(model, images)))


METHOD = Method(Settings, explain, "unit", cost, storage="float32", at_layer=True)
