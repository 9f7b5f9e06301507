"""Relevance mass accuracy: what part of a map's sum lies on the object.

Source: L. Arras et al., CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network explanations,
2022.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric


def compute(batch: Batch) -> Floats:
    """Return the part on the mask, in [0, 1], (N,)."""
    return (batch.positive * batch.objects.masks).sum(axis=(1, 2)) / batch.positive.sum(axis=(1, 2))


def chance(batch: Batch) -> Floats:
    """Return the part of the frame that the mask covers, (N,)."""
    return batch.objects.masks.mean(axis=(1, 2), dtype=np.float64)


METRIC = Metric(compute, truth="mask", reads="mass", higher_is_better=True, best=1, worst=0, chance=chance)
