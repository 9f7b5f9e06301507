"""Box accuracy, second version (MaxBoxAccV2): as the first, of any component, at three overlaps.

An image's value at a threshold is the best overlap of any box of the object with the box of any 8-connected component.
The number is the mean of the box accuracies at overlaps 0.3, 0.5 and 0.7, each at its own best threshold. Source: J.
Choe et al., Evaluation for Weakly Supervised Object Localization: Protocol, Metrics, and Datasets, 2022.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.localisation.batch import Batch, LocalisationSettings
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric, best_accuracy
from pipeline.metrics.localisation.threshold_scan import THRESHOLDS

ACCEPTED = (0.3, 0.5, 0.7)
"""Least overlaps of a find."""


def compute(batch: Batch) -> Floats:
    """Return the overlap at each threshold, in [0, 1], (N, T)."""
    return batch.threshold_overlaps[1]


def thresholds(settings: LocalisationSettings, side: int) -> Floats:
    """Return the thresholds, (T,)."""
    return THRESHOLDS


def aggregate(values: Floats, weights: Floats) -> Floats:
    """Return the mean accuracy over `ACCEPTED`, (R,)."""
    return np.mean([best_accuracy(values, weights, accepted) for accepted in ACCEPTED], axis=0)


METRIC = Metric(
    compute, truth="boxes", reads="parts", higher_is_better=True, best=1, worst=0, at=thresholds, aggregate=aggregate
)
