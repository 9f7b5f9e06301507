"""Box accuracy (BA, MaxBoxAcc): the share of images whose object is found, at the threshold where most are.

An image's value at a threshold is the overlap of the object with the box of the largest 8-connected component of the
pixels that are at least the threshold, of the map scaled to [0, 1]. The threshold is the best over the dataset,
overlaps from 0.5 on are finds. Source: J. Choe et al., Evaluating Weakly Supervised Object Localization Methods Right,
2020.
"""

from __future__ import annotations

from functools import partial

from pipeline.metrics.localisation.batch import Batch, LocalisationSettings
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import Metric, best_accuracy
from pipeline.metrics.localisation.threshold_scan import THRESHOLDS


def compute(batch: Batch) -> Floats:
    """Return the overlap at each threshold, in [0, 1], (N, T)."""
    return batch.threshold_overlaps[0]


def thresholds(settings: LocalisationSettings, side: int) -> Floats:
    """Return the thresholds, (T,)."""
    return THRESHOLDS


METRIC = Metric(
    compute,
    truth="boxes",
    reads="parts",
    higher_is_better=True,
    best=1,
    worst=0,
    at=thresholds,
    aggregate=partial(best_accuracy, accepted=0.5),
)
