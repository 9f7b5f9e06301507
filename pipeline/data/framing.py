"""Boxes and masks carried into a model's frame, through the resizing and cropping that its pictures go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.dataset import Box
from pipeline.data.decode import fit, open_image, resized

Mask = npt.NDArray[np.bool_]
Boxes = npt.NDArray[np.int64]
"""Boxes in whole pixels, (..., 4) as left, top, right, bottom; the last pixels are right - 1 and bottom - 1."""
Reading = Literal["corrected", "published"]
"""How ground truth is carried and compared: as it should be, or as source 004 did; see docs/localisation.md."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects on N images, in the frame of a model.

    Attributes:
        boxes: int64 (N, K, 4), K being that of the image with the most; see `Boxes`.
        present: bool (N, K), whether there is such a box. An image may have none: its objects were cropped away.
        masks: bool (N, H, W), true on the object; all false where there is no mask.
        masked: bool (N,), whether there is one. It may be empty: the object was cropped away.
    """

    boxes: Boxes
    present: Mask
    masks: Mask
    masked: Mask

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, images: slice | npt.NDArray[Any]) -> Objects:
        return Objects(self.boxes[images], self.present[images], self.masks[images], self.masked[images])


def carry_boxes(
    boxes: npt.ArrayLike, size: tuple[int, int], side: int, crop_fraction: float, reading: Reading = "corrected"
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
        UserError: the bytes are no readable image.
    """
    mask = open_image(encoded, source).convert("L").point(lambda value: 255 if value else 0)
    return np.asarray(fit(mask, side, crop_fraction, Image.Resampling.NEAREST, source)) > 0


def box_of(mask: Mask) -> Box:
    """Return the tight box of a mask (H, W) that is not empty, where nobody drew one."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def together(boxes: Sequence[Boxes], masks: Sequence[Mask | None], side: int) -> Objects:
    """Put the ground truth of several images into arrays.

    Args:
        boxes: those of each image, (K, 4), in its frame.
        masks: the mask of each image, (side, side), or None.
        side: of the frame, in pixels.
    """
    most = max((len(one) for one in boxes), default=0)
    padded = np.zeros((len(boxes), most, 4), np.int64)
    present = np.zeros((len(boxes), most), bool)
    for place, one in enumerate(boxes):
        padded[place, : len(one)], present[place, : len(one)] = one, True
    masked = np.array([one is not None for one in masks], bool)
    filled = np.zeros((len(masks), side, side), bool)
    for place in np.flatnonzero(masked):
        filled[place] = masks[place]
    return Objects(padded, present, filled, masked)
