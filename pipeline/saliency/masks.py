"""Pictures seen through masks: what methods and metrics that multiply an image by a map share."""

from __future__ import annotations

from typing import Literal

import torch

from pipeline.models.classifier import Classifier

Masked = Literal["picture", "normalised"]
"""What a mask multiplies: the picture before normalisation, where 0 is black, or the network's normalised input, where
0 is the mean colour."""


def apply_masks(model: Classifier, images: torch.Tensor, masks: torch.Tensor, masked: Masked) -> torch.Tensor:
    """Return images multiplied by masks; differentiable.

    Args:
        model: whose normalisation the images have.
        images: float32 (N, 3, H, W), normalised; or one for all masks.
        masks: (N, H, W) in [0, 1]; 1 leaves a pixel as it is.
        masked: what the mask multiplies.

    Returns:
        float32 (N, 3, H, W), normalised, channels last in memory.
    """
    shown = images * masks[:, None]
    if masked == "picture":
        shown = shown - model.mean / model.std * (1 - masks[:, None])  # and an image under ones is exactly itself
    return shown.contiguous(memory_format=torch.channels_last)
