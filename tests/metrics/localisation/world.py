"""Objects and maps of a known fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.data.framing import Boxes, Objects, box_of, together
from pipeline.data.geometry import Mask
from pipeline.metrics.localisation.batch import Batch, LocalisationSettings
from pipeline.metrics.localisation.metric import METRICS

SIDE = 24
CORRECTED = LocalisationSettings(reading="corrected", tolerance=15.0)
PUBLISHED = LocalisationSettings(reading="published", tolerance=15.0)

OBJECTS = np.zeros((4, SIDE, SIDE), bool)
OBJECTS[0, 6:14, 8:18] = True
OBJECTS[1, 2:9, 3:9] = True
OBJECTS[2, 10:22, 4:20] = True
OBJECTS[3, 0:5, 0:24] = True
"""Objects that fill their boxes."""


def objects_of(masks: np.ndarray, *, boxes: bool = True) -> Objects:
    """Return the ground truth of masks; each has its tight box."""
    own = [box_of(one)[None] if boxes and one.any() else None for one in masks]
    return together(own, list(masks), masks.shape[1])


def batch_of(
    maps: np.ndarray,
    objects: Objects,
    settings: LocalisationSettings = CORRECTED,
    right: Any = None,
    scores: Any = None,
) -> Batch:
    count = len(maps)
    given = np.ones(count, bool) if right is None else np.asarray(right, bool)
    return Batch(maps, objects, settings, given, np.full(count, 0.5) if scores is None else np.asarray(scores))


def values(name: str, batch: Batch) -> np.ndarray:
    """Return a metric's number of each map, the mean over what it has of thresholds."""
    with np.errstate(all="ignore"):
        return METRICS[name].compute(batch).reshape(len(batch), -1).mean(axis=1)


def boxed(boxes: list[list[list[int]]], side: int = SIDE) -> Objects:
    """Return objects of boxes alone."""
    given: list[Boxes | None] = [np.array(one, np.int64).reshape(-1, 4) if one else None for one in boxes]
    masks: list[Mask | None] = [None] * len(boxes)
    return together(given, masks, side)
