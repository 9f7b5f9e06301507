"""Energy pointing game (EP): what part of a map's sum lies in the union of the boxes.

Source: H. Wang et al., Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks, 2020.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric


def compute(batch: Batch) -> Floats:
    """Return the part inside, in [0, 1], (N,); in the published reading, the part in other pixels."""
    return (batch.positive * batch.covered).sum(axis=(1, 2)) / batch.positive.sum(axis=(1, 2))


def chance(batch: Batch) -> Floats:
    """Return the part of the frame that the boxes cover, (N,)."""
    return batch.covered.mean(axis=(1, 2), dtype=np.float64)


METRIC = Metric(compute, truth="boxes", reads="mass", higher_is_better=True, best=1, worst=0, chance=chance)
