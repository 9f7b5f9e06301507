"""A control: noise at the resolution of the image.

For methods whose maps are as large as the image; smooth maps beat it by being smooth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.classifier import Classifier
from pipeline.saliency.controls import NoSettings, cost, random_maps
from pipeline.saliency.method import Method


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: NoSettings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W), each from its row's seed."""
    return random_maps(seeds, images.shape[-1], images.device)


METHOD = Method(NoSettings, explain, "unit", cost, control=True)
