"""Pixel-wise F1: the harmonic mean of precision and recall of a map's values, at the box that suits it best.

Precision is what part of the map's sum lies in a box, recall is the mean value in the box.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats, areas, sums_inside
from pipeline.metrics.localisation.metric import Metric


def compute(batch: Batch) -> Floats:
    """Return the best F1 over boxes, in [0, 1], (N,).

    In the published reading the area of a box has the part outside of the frame, where a map has no values.
    """
    inside = sums_inside(batch.positive, batch.objects.boxes)
    precision = inside / batch.positive.sum(axis=(1, 2))[:, None]
    recall = inside / np.maximum(areas(batch.objects.boxes), 1)
    total = precision + recall
    return batch.best_box(2 * precision * recall / np.where(total > 0, total, 1))


METRIC = Metric(compute, truth="boxes", reads="mass", higher_is_better=True, best=1, worst=0)
