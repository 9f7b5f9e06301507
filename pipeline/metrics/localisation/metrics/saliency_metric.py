"""Saliency metric (SM): how small and how telling the map's box is.

ln max(area / HW, 0.05) - ln(score of the class on the box cut out and resized). The box is the map's own, so no ground
truth takes part. Source: P. Dabkowski and Y. Gal, Real Time Image Saliency for Black Box Classifiers, 2017.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats, areas
from pipeline.metrics.localisation.metric import Metric

SMALLEST = 0.05
"""Part of the frame below which a box gains nothing."""
LEAST_SCORE = float(np.finfo(np.float32).tiny)
"""What a score counts at least: a softmax in single precision may give 0."""


def compute(batch: Batch) -> Floats:
    """Return the metric, (N,), from ln 0.05 = -3.0 to about 87, which is -ln of the least score.

    Raises:
        ValueError: the batch has no scores.
    """
    if batch.scores is None:
        raise ValueError("found no scores; allowed: those of what `cut_outs` cuts out of the pictures")
    height, width = batch.shape
    part = areas(batch.map_boxes) / (height * width)
    return np.log(np.maximum(part, SMALLEST)) - np.log(np.maximum(batch.scores, LEAST_SCORE))


METRIC = Metric(
    compute,
    truth="none",
    reads="parts",
    higher_is_better=False,
    best=float(np.log(SMALLEST)),
    worst=float(-np.log(LEAST_SCORE)),
    forward=1,
)
