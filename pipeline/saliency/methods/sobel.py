"""A control: the edges of the picture, which no model has seen.

Sobel's two filters on the grey picture, and the root of the mean of their squares, as in scikit-image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import scaled_map
from pipeline.saliency.controls import NoSettings, cost
from pipeline.saliency.method import Method

GREY = (0.2125, 0.7154, 0.0721)
"""Luminance of red, green and blue (ITU-R BT.709), as in scikit-image."""


def edges(pictures: torch.Tensor) -> torch.Tensor:
    """Return the strength of the edges, float64 (N, H, W), of pictures (N, 3, H, W); the border is repeated."""
    grey = torch.einsum("c,nchw->nhw", torch.tensor(GREY, dtype=torch.float64).to(pictures.device), pictures.double())
    smooth = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64, device=pictures.device) / 4
    slope = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64, device=pictures.device)
    filters = torch.stack([torch.outer(slope, smooth), torch.outer(smooth, slope)])[:, None]
    down_and_across = F.conv2d(F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate"), filters)
    return down_and_across.square().mean(dim=1).sqrt()


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: NoSettings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; nothing is random."""
    return scaled_map(edges(images * model.std + model.mean))


METHOD = Method(NoSettings, explain, "unit", cost, control=True)
