"""Pixel average precision: how well a map's values tell the object's pixels from the others.

The definition is that of `sklearn.metrics.average_precision_score`.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric
from pipeline.metrics.localisation.ordering import average_precision


def compute(batch: Batch) -> Floats:
    """Return the average precision, in [0, 1], (N,)."""
    return np.array([average_precision(one, mask) for one, mask in zip(batch.maps, batch.objects.masks, strict=True)])


def chance(batch: Batch) -> Floats:
    """Return the part of the frame that the mask covers, (N,)."""
    return batch.objects.masks.mean(axis=(1, 2), dtype=np.float64)


METRIC = Metric(compute, truth="mask", reads="order", higher_is_better=True, best=1, worst=0, chance=chance)
