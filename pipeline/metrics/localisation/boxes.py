"""Boxes and maps: overlap, what lies inside, and the box of a map. All for many images at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.data.framing import Boxes
from pipeline.data.geometry import Mask

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[Any]
"""Saliency maps, (N, H, W), of any real type."""


def areas(boxes: Boxes) -> npt.NDArray[np.int64]:
    """Return the area of boxes (..., 4), in pixels; 0 for a box without any."""
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1)


def iou(one: Boxes, other: Boxes) -> Floats:
    """Return the intersection over union of boxes (..., 4) and (..., 4), in [0, 1]; 0 where both are empty.

    >>> float(iou(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])))
    0.3333333333333333
    """
    corners = np.concatenate(
        [np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])], axis=-1
    )
    shared = areas(corners)
    union = areas(one) + areas(other) - shared
    return shared / np.maximum(union, 1)


def sums_inside(maps: Maps, boxes: Boxes) -> Floats:
    """Return the sum of each map over each of its boxes; what of a box is outside of the frame adds nothing.

    Args:
        maps: (N, H, W).
        boxes: (N, K, 4).

    Returns:
        float64 (N, K).
    """
    images, height, width = maps.shape
    integral = np.zeros((images, height + 1, width + 1))
    np.cumsum(np.cumsum(maps, axis=1, dtype=np.float64), axis=2, out=integral[:, 1:, 1:])
    left, right = np.clip(boxes[..., 0], 0, width), np.clip(boxes[..., 2], 0, width)
    top, bottom = np.clip(boxes[..., 1], 0, height), np.clip(boxes[..., 3], 0, height)
    right, bottom = np.maximum(left, right), np.maximum(top, bottom)
    which = np.arange(images)[:, None]
    return (
        integral[which, bottom, right]
        - integral[which, top, right]
        - integral[which, bottom, left]
        + integral[which, top, left]
    )


def union(boxes: Boxes, present: Mask, shape: tuple[int, int]) -> Mask:
    """Return the pixels that lie in any box of an image.

    Args:
        boxes: (N, K, 4); parts outside of the frame are ignored.
        present: (N, K), which boxes count.
        shape: height and width of the frame.

    Returns:
        bool (N, H, W).
    """
    down, across = (np.arange(length) for length in shape)
    rows = (down >= boxes[..., 1, None]) & (down < boxes[..., 3, None]) & present[..., None]
    columns = (across >= boxes[..., 0, None]) & (across < boxes[..., 2, None])
    covered = rows.astype(np.float32).transpose(0, 2, 1) @ columns.astype(np.float32)
    return covered > 0


def wrapped_union(boxes: Boxes, present: Mask, shape: tuple[int, int]) -> Mask:
    """Return what source 004 takes for `union`: rows are indexed by x, columns by y, and negative numbers wrap.

    ``mask[left:right, top:bottom] = 1`` fills nothing where left is -3 and right is 100, since -3 counts from the end.
    """
    lengths = np.array([shape[0], shape[1], shape[0], shape[1]])
    wrapped = np.clip(np.where(boxes < 0, boxes + lengths, boxes), 0, lengths)
    return union(wrapped[..., [1, 0, 3, 2]], present, shape)


def largest_component_boxes(inside: Mask) -> Boxes:
    """Return the tight box of the largest 4-connected component of each set of pixels.

    Args:
        inside: (N, H, W). Of components of the same size, the one that comes first in reading order counts.

    Returns:
        int64 (N, 4); zeros where there is no pixel.
    """
    boxes = np.zeros((len(inside), 4), np.int64)
    for place, one in enumerate(inside):
        labels, count = ndimage.label(one)
        if count:
            sizes = np.bincount(labels.ravel())
            sizes[0] = 0
            largest = int(sizes.argmax())
            rows, columns = ndimage.find_objects(labels, largest)[largest - 1]
            boxes[place] = columns.start, rows.start, columns.stop, rows.stop
    return boxes
