"""The boxes of a map at every threshold, compared with those of the object: the basis of box accuracy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.data.framing import Boxes
from pipeline.metrics.localisation.boxes import Floats, areas, iou

STEPS = 100
THRESHOLDS = np.arange(STEPS) / STEPS
"""0, 0.01, ... 0.99."""
EIGHT = np.ones((3, 3), bool)
LEAST_ACCEPTED = 0.3
"""Least overlap that any box accuracy accepts."""

Labels = npt.NDArray[np.int32]


def overlaps(scaled: Floats, boxes: Boxes) -> tuple[Floats, Floats]:
    """Return how well the boxes of one map match those of its object, at every threshold.

    At threshold t, the pixels that are at least t make 8-connected components, each of which has a tight box.

    Args:
        scaled: map (H, W) whose least value is 0 and whose greatest is 1.
        boxes: (K, 4), K at least 1, of the object.

    Returns:
        float64 (T,) and (T,): greatest intersection over union of the object's boxes with the box of the largest
        component, and with the box of any. Of largest ones the first in reading order counts.
    """
    # The number of thresholds that a pixel reaches, exactly: a product alone puts 0.29 below its threshold.
    reached = np.searchsorted(THRESHOLDS, scaled.ravel(), side="right").reshape(scaled.shape)
    counts = np.bincount(reached.ravel(), minlength=STEPS + 1)
    highest_in = reached.max(axis=1), reached.max(axis=0)
    largest, best = np.zeros(STEPS), np.zeros(STEPS)
    for step in range(STEPS):
        if step and not counts[step]:  # the same pixels as at the threshold before
            largest[step], best[step] = largest[step - 1], best[step - 1]
            continue
        rows, columns = (np.flatnonzero(highest > step) for highest in highest_in)
        top, left = rows[0], columns[0]
        part = reached[top : rows[-1] + 1, left : columns[-1] + 1] > step
        labels, _ = ndimage.label(part, EIGHT)
        largest[step], best[step] = _of_components(labels, boxes - np.array([left, top, left, top]))
    return largest, best


def _of_components(labels: Labels, boxes: Boxes) -> tuple[float, float]:
    """Return the overlap of the largest component, and the greatest of any.

    Most components of a noisy map are too small to matter. One of n pixels has a box of at most n² (it is as long and
    as wide as n at most), so its overlap is at most n² / area.
    """
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    possible = sizes.astype(np.float64) ** 2 / max(areas(boxes).min(), 1)
    chosen = possible >= LEAST_ACCEPTED
    chosen[[0, largest]] = False, True
    found = _overlaps_of(labels, chosen, boxes)
    best = float(found.max())
    rest = (possible > best) & ~chosen
    rest[0] = False
    if best < LEAST_ACCEPTED and rest.any():
        best = max(best, float(_overlaps_of(labels, rest, boxes).max()))
    return float(found[np.count_nonzero(chosen[:largest])]), best


def _overlaps_of(labels: Labels, chosen: npt.NDArray[np.bool_], boxes: Boxes) -> Floats:
    """Return the greatest overlap of each chosen component with any box, in the order of their labels."""
    renumbered = np.where(chosen, np.cumsum(chosen), 0).astype(np.int32)
    slices = ndimage.find_objects(renumbered[labels])
    tight = np.array([(across.start, down.start, across.stop, down.stop) for down, across in slices], np.int64)
    return iou(tight[:, None], boxes[None]).max(axis=1)
