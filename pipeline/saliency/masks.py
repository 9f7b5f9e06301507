"""Showing a model parts of its images."""

from __future__ import annotations

from typing import Literal

import torch

from pipeline.models.classifier import Classifier

Masked = Literal["picture", "normalised"]
"""What a mask multiplies: the picture, so that what is hidden is black, or the normalised input, so that it is the mean
image."""


def masked(model: Classifier, images: torch.Tensor, masks: torch.Tensor, how: Masked) -> torch.Tensor:
    """Return images under masks, as the model's inputs.

    Args:
        model: its mean and deviation say what black is.
        images: (B, 3, H, W), normalised; or one for all masks.
        masks: (B, 1, H, W), 1 where the image is shown and 0 where it is hidden.
        how: what the masks multiply.

    Returns:
        (B, 3, H, W), normalised, channels last in memory.
    """
    if how == "picture":
        black = -model.mean / model.std
        shown = black + masks * (images - black)
    else:
        shown = masks * images
    return shown.contiguous(memory_format=torch.channels_last)
