"""What a localisation metric declares, and the metrics there are: one file each in the folder ``metrics``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.core.registry import Registry
from pipeline.metrics.localisation.batch import Batch, LocalisationSettings
from pipeline.metrics.localisation.boxes import Floats


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Return the mean over images, for every set of weights.

    Args:
        values: (N, T); NaN where there is none, which is left out. The mean over T comes first.
        weights: (R, N), how often each image counts.

    Returns:
        float64 (R,); NaN where nothing counts.
    """
    of_image = values.mean(axis=1)
    defined = ~np.isnan(of_image)
    total = weights[:, defined].sum(axis=1)
    return np.divide(weights[:, defined] @ of_image[defined], total, out=np.full(len(total), np.nan), where=total > 0)


def best_accuracy(values: Floats, weights: Floats, accepted: float) -> Floats:
    """Return the share of images that are found at the threshold where most are, for every set of weights.

    Args:
        values: (N, T), overlap of each image at each threshold; rows of NaN are left out.
        weights: (R, N), how often each image counts.
        accepted: least overlap of an image that is found.

    Returns:
        float64 (R,) in [0, 1]; NaN where nothing counts.
    """
    defined = ~np.isnan(values[:, 0])
    total = weights[:, defined].sum(axis=1)
    found = (weights[:, defined] @ (values[defined] >= accepted)).max(axis=1)
    return np.divide(found, total, out=np.full(len(total), np.nan), where=total > 0)


def no_place(settings: LocalisationSettings, side: int) -> Floats | None:
    """Say that a metric has one value per map, taken at nothing in particular."""
    return None


@dataclass(frozen=True)
class Metric:
    """A localisation metric.

    Attributes:
        compute: ``batch -> values``, float64 (N,) or (N, T), row by row independent of each other. Values of maps for
            which the metric is undefined do not matter.
        truth: what ground truth it needs: "boxes", a "mask", or "none".
        reads: what it reads of a map, which decides where it is undefined. "order": the values' order, which a flat map
            does not have. "parts": what is above a threshold, which needs an order too, and something positive.
            "mass": sums of the positive part, which must not be 0.
        higher_is_better: the direction.
        best: the best value that any map can have.
        worst: the worst.
        chance: ``batch -> (N,)``, the mean over maps of independent noise; None if it depends on the noise.
        at: ``(settings, side) -> (T,)``, where the T values of a map are taken (thresholds, or a radius in pixels);
            None for one value at nothing in particular.
        forward: evaluations of the model that one map takes.
        aggregate: ``(values (N, T), weights (R, N)) -> (R,)``, NaN standing for undefined.
    """

    compute: Callable[[Batch], Floats]
    truth: Literal["boxes", "mask", "none"]
    reads: Literal["order", "parts", "mass"]
    higher_is_better: bool
    best: float
    worst: float
    chance: Callable[[Batch], Floats] | None = None
    at: Callable[[LocalisationSettings, int], Floats | None] = no_place
    forward: int = 0
    aggregate: Callable[[Floats, Floats], Floats] = weighted_mean


METRICS: Registry[Metric] = Registry("pipeline.metrics.localisation.metrics", "METRIC", "localisation metric")
