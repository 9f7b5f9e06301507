"""Boxes and masks carried into a model's frame, through the resizing and cropping that its pictures go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.decode import fit, open_image, resized
from pipeline.data.geometry import Mask

Boxes = npt.NDArray[np.int64]
"""Boxes in whole pixels, (..., 4) as left, top, right, bottom; the last pixels are right - 1 and bottom - 1."""
Reading = Literal["corrected", "published"]
"""How ground truth is carried and compared: as it should be, or as source 004 did; see docs/localisation.md."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects on N images, in the frame of a model.

    Attributes:
        boxes: int64 (N, K, 4), K being that of the image with the most; see `Boxes`.
        present: bool (N, K), whether there is such a box.
        boxed: bool (N,), whether there is one in the image file. None may be left: the object was cropped away.
        masks: bool (N, H, W), true on the object; all false where there is no mask.
        masked: bool (N,), whether there is one. It may be empty: the object was cropped away.
    """

    boxes: Boxes
    present: Mask
    boxed: Mask
    masks: Mask
    masked: Mask

    def __len__(self) -> int:
        return len(self.boxes)


def carry_boxes(
    boxes: npt.ArrayLike, size: tuple[int, int], side: int, crop_fraction: float, *, reading: Reading = "corrected"
) -> Boxes:
    """Carry an image's boxes into a model's frame.

    Args:
        boxes: (K, 4), left, top, right and bottom in pixels of the image file.
        size: width and height of the image file.
        side: of the model's input, in pixels.
        crop_fraction: see `pipeline.data.decode.fit`.
        reading: "corrected" follows `fit` to the pixel, leaves out boxes of which nothing is in the frame, and cuts the
            others to it; a pixel belongs to a box that covers its centre, and at least one does. "published" resizes
            both sides by the same factor, subtracts half of what is cropped without rounding, drops the fractions
            (towards zero) and cuts nothing: coordinates may be negative or beyond the frame.

    Returns:
        int64 (K', 4); K' is less than K where boxes are left out.
    """
    found = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides, short = np.array(size), round(side / crop_fraction)
    if reading == "published":
        factor = short / sides.min()
        offset = (sides * factor - side) / 2
        return np.trunc(found * factor - np.tile(offset, 2)).astype(np.int64)
    large = np.array(resized(size, short))
    offset = np.round((large - side) / 2)  # halves to even, as `fit`
    carried = found * np.tile(large / sides, 2) - np.tile(offset, 2)
    within = (carried[:, :2] < side).all(axis=1) & (carried[:, 2:] > 0).all(axis=1)
    clipped = np.clip(carried[within], 0, side)
    pixels = np.ceil(clipped - 0.5).astype(np.int64)
    first = np.minimum(pixels[:, :2], side - 1)
    return np.concatenate([first, np.maximum(pixels[:, 2:], first + 1)], axis=1)


def carry_mask(encoded: bytes, side: int, crop_fraction: float, source: str) -> Mask:
    """Carry an image's mask into a model's frame, each pixel taking the nearest one.

    Args:
        encoded: bytes of an image file, non-zero on the object.
        side: of the model's input, in pixels.
        crop_fraction: see `pipeline.data.decode.fit`.
        source: what to call the file in an error.

    Returns:
        bool (side, side).

    Raises:
        UserError: the bytes are not a readable image.
    """
    mask = open_image(encoded, source).convert("L").point(lambda value: 255 if value else 0)
    return np.asarray(fit(mask, side, crop_fraction, Image.Resampling.NEAREST, source=source)) > 0


def box_of(mask: Mask) -> Boxes:
    """Return the tight box, (4,), of a mask (H, W) that is not empty, where nobody drew one."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.int64)


def together(boxes: Sequence[Boxes | None], masks: Sequence[Mask | None], side: int) -> Objects:
    """Put the ground truth of several images into arrays.

    Args:
        boxes: those of each image, (K, 4), in its frame; None for an image that came without.
        masks: the mask of each image, (side, side); None for an image that came without.
        side: of the frame, in pixels.
    """
    most = max((len(one) for one in boxes if one is not None), default=0)
    padded = np.zeros((len(boxes), most, 4), np.int64)
    present = np.zeros((len(boxes), most), bool)
    filled = np.zeros((len(masks), side, side), bool)
    for place, (box, mask) in enumerate(zip(boxes, masks, strict=True)):
        if box is not None:
            padded[place, : len(box)], present[place, : len(box)] = box, True
        if mask is not None:
            filled[place] = mask
    boxed, masked = (np.array([one is not None for one in found], bool) for found in (boxes, masks))
    return Objects(padded, present, boxed, filled, masked)
