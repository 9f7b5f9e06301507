"""Fake-CAM, a control: one everywhere but at the first pixel.

Source: S. Poppi et al., Revisiting the Evaluation of Class Activation Mapping for Explainability: A Novel Metric and
Experimental Analysis, 2021. As a mask it hides next to nothing, which average drop takes for a perfect map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.controls import cost
from pipeline.saliency.method import Method, MethodSettings


class Settings(MethodSettings):
    """Fake-CAM has nothing to choose."""


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W); all are the same."""
    maps = images.new_ones((len(images), *images.shape[2:]))
    maps[:, 0, 0] = 0
    return maps


METHOD = Method(Settings, explain, "unit", cost, control=True)
