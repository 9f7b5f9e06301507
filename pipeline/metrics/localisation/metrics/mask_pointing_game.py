"""Pointing game on the mask: whether a highest pixel of the map lies on the object.

Source: J. Zhang et al., Top-down Neural Attention by Excitation Backprop, 2018, without its tolerance.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric


def compute(batch: Batch) -> Floats:
    """Return 1 for a hit, 0 for none, (N,)."""
    return np.where((batch.highest & batch.objects.masks).any(axis=(1, 2)), 1.0, 0.0)


def chance(batch: Batch) -> Floats:
    """Return the part of the frame that the mask covers, (N,)."""
    return batch.objects.masks.mean(axis=(1, 2), dtype=np.float64)


METRIC = Metric(compute, truth="mask", reads="order", higher_is_better=True, best=1, worst=0, chance=chance)
