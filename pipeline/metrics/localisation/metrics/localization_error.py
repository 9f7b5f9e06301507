"""Localisation error (LE): whether the map's box misses every box of the object.

1 - max over boxes [IoU > 0.5], the map's box being the tight box of the largest 4-connected component above the map's
mean. Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric


def compute(batch: Batch) -> Floats:
    """Return 1 for a map that misses, 0 for one that hits, (N,)."""
    return np.where(batch.map_box_overlaps > 0.5, 0.0, 1.0)


METRIC = Metric(compute, truth="boxes", reads="parts", higher_is_better=False, best=0, worst=1)
