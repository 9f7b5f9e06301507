"""Relevance rank accuracy: which part of the object's n pixels is among the map's n highest.

Source: L. Arras et al., CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network explanations,
2022.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric
from pipeline.metrics.localisation.ordering import hits_among_highest


def compute(batch: Batch) -> Floats:
    """Return the part, in [0, 1], (N,)."""
    return np.array([hits_among_highest(one, mask) for one, mask in zip(batch.maps, batch.objects.masks, strict=True)])


def chance(batch: Batch) -> Floats:
    """Return the part of the frame that the mask covers, (N,)."""
    return batch.objects.masks.mean(axis=(1, 2), dtype=np.float64)


METRIC = Metric(compute, truth="mask", reads="order", higher_is_better=True, best=1, worst=0, chance=chance)
