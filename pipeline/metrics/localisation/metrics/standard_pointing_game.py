"""Standard pointing game (SP): whether a highest pixel of the map lies in a box of the object.

Source: J. Zhang et al., Top-down Neural Attention by Excitation Backprop, 2018, without its tolerance.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.geometry import Mask
from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats, union
from pipeline.metrics.localisation.metric import Metric


def _pixels(batch: Batch) -> Mask:
    """Return the pixels that are hits; in the published reading a box has its right and bottom edges too."""
    if not batch.published:
        return batch.inside
    return union(batch.objects.boxes + np.array([0, 0, 1, 1]), batch.objects.present, batch.shape)


def compute(batch: Batch) -> Floats:
    """Return 1 for a hit, 0 for none, (N,)."""
    return np.where((batch.highest & _pixels(batch)).any(axis=(1, 2)), 1.0, 0.0)


def chance(batch: Batch) -> Floats:
    """Return the part of the frame that is a hit, (N,)."""
    return _pixels(batch).mean(axis=(1, 2), dtype=np.float64)


METRIC = Metric(compute, truth="boxes", reads="order", higher_is_better=True, best=1, worst=0, chance=chance)
