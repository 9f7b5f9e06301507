"""Tolerant pointing game: whether a highest pixel of the map lies near a box of the object.

Near is within a disc, by default of 15 pixels at 224. Source: J. Zhang et al., Top-down Neural Attention by Excitation
Backprop, 2018; R. Fong et al., Understanding Deep Networks via Extremal Perturbations and Smooth Masks, 2019.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.data.geometry import Mask
from pipeline.metrics.localisation.batch import TOLERANCE_SIDE, Batch, LocalisationSettings
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric

Whole = npt.NDArray[np.int64]


def radius(settings: LocalisationSettings, side: int) -> Floats:
    """Return the disc's radius in pixels, (1,)."""
    return np.array([settings.tolerance * side / TOLERANCE_SIDE])


def _distances(first: Whole, last: Whole, length: int) -> Whole:
    """Return how far each of ``length`` pixels lies from a row of pixels, (N, K, length)."""
    pixels = np.arange(length)
    return np.maximum(np.maximum(first[..., None] - pixels, pixels - last[..., None]), 0)


def _near(batch: Batch) -> Mask:
    """Return the pixels within the disc of any pixel of a box that lies in the frame, (N, H, W)."""
    height, width = batch.shape
    boxes = np.clip(batch.objects.boxes, 0, np.array([width, height, width, height]))
    present = batch.objects.present & (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
    squared = radius(batch.settings, width)[0] ** 2
    down = _distances(boxes[..., 1], boxes[..., 3] - 1, height) ** 2
    across = _distances(boxes[..., 0], boxes[..., 2] - 1, width) ** 2
    near = np.zeros(batch.maps.shape, bool)
    for box in range(boxes.shape[1]):
        near |= (down[:, box, :, None] + across[:, box, None, :] <= squared) & present[:, box, None, None]
    return near


def compute(batch: Batch) -> Floats:
    """Return 1 for a hit, 0 for none, (N,)."""
    return np.where((batch.highest & _near(batch)).any(axis=(1, 2)), 1.0, 0.0)


def chance(batch: Batch) -> Floats:
    """Return the part of the frame that is a hit, (N,)."""
    return _near(batch).mean(axis=(1, 2), dtype=np.float64)


METRIC = Metric(compute, truth="boxes", reads="order", higher_is_better=True, best=1, worst=0, chance=chance, at=radius)
