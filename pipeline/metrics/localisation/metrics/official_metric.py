"""Official metric (OM): localisation error of the first guess, which must be the right class too.

1 - max over boxes [IoU > 0.5] · [the first guess is right], so that it is never below the localisation error. Source:
O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric


def compute(batch: Batch) -> Floats:
    """Return 1 for a map that misses or explains a wrong guess, 0 for one that hits, (N,)."""
    return np.where((batch.map_box_overlaps > 0.5) & batch.right, 0.0, 1.0)


METRIC = Metric(compute, truth="boxes", reads="parts", higher_is_better=False, best=0, worst=1)
