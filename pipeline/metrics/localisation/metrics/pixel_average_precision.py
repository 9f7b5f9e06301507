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
    """Return the mean over all orders of the pixels, (N,): of n pixels in N, about n / N.

    The k-th pixel is a hit in n / N of the orders, and then (n - 1) / (N - 1) of those before it are hits too.
    """
    hits, pixels = batch.objects.masks.sum(axis=(1, 2)), float(np.prod(batch.shape))
    harmonic = (1 / np.arange(1, pixels + 1)).sum()
    return (harmonic + (hits - 1) / (pixels - 1) * (pixels - harmonic)) / pixels


METRIC = Metric(compute, truth="mask", reads="order", higher_is_better=True, best=1, worst=0, chance=chance)
