"""The localisation metrics of some maps, and the table that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.core.tables import Column, Table, null_where, present_where
from pipeline.data.prepared import ROW
from pipeline.metrics.localisation.batch import Batch
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.metric import METRICS, Metric

OUTSIDE = "no part of the object is in the frame"
FLAT = "all values of the map are equal"
NOTHING_POSITIVE = "no value of the map is positive"
NO_PARTS = "all values of the map's positive part are equal"
REASONS = (OUTSIDE, FLAT, NOTHING_POSITIVE, NO_PARTS)
"""Why there is no value."""

LOCALISATION = Table(
    "localisation",
    "How well the map of every unperturbed image lies on the image's object; rows only for images with ground truth "
    "of the kind that a metric needs.",
    (
        ROW,
        Column("metric", "string", "name of the metric, a file of pipeline/metrics/localisation/metrics"),
        Column(
            "at",
            "float64",
            "where the value was taken: the threshold, or the radius in pixels; null where there is one value a map",
            nullable=True,
            minimum=0,
        ),
        Column("value", "float64", "the metric of this map; null where it is undefined", nullable=True),
        Column("reason", "string", "why there is no value; null where there is one", nullable=True, allowed=REASONS),
    ),
    ("row", "metric", "at"),
    (
        present_where("reason", lambda lines: lines["value"].isna(), "value.isnull()"),
        null_where("reason", lambda lines: lines["value"].notna(), "value.notnull()"),
    ),
    may_be_empty=True,
)


@dataclass(frozen=True)
class Measured:
    """What a metric says of a batch.

    Attributes:
        places: which maps have ground truth of its kind, (M,), ascending positions in the batch.
        numbers: float64 (M, T), NaN where undefined.
        reasons: why, one of `REASONS` or None, for each of the M.
        at: where the numbers were taken, (T,); None for one value at nothing in particular.
    """

    places: npt.NDArray[np.int64]
    numbers: Floats
    reasons: list[str | None]
    at: Floats | None


def undefined(metric: Metric, batch: Batch) -> list[str | None]:
    """Return why a metric is undefined for each map of a batch, None where it is defined."""
    reasons = np.full(len(batch), None, object)
    if metric.reads == "order":
        reasons[batch.flat] = FLAT
    elif metric.reads == "mass":
        reasons[batch.positive.sum(axis=(1, 2)) == 0] = NOTHING_POSITIVE
    else:
        least, greatest = batch.positive.min(axis=(1, 2)), batch.positive.max(axis=(1, 2))
        reasons[least == greatest] = NO_PARTS
        reasons[greatest == 0] = NOTHING_POSITIVE
        reasons[batch.flat] = FLAT
    if metric.truth == "boxes":
        reasons[~batch.objects.present.any(axis=1)] = OUTSIDE
    elif metric.truth == "mask":
        reasons[~batch.objects.masks.any(axis=(1, 2))] = OUTSIDE
    return reasons.tolist()


def measure(metric: Metric, batch: Batch) -> Measured:
    """Return a metric of every map of a batch that has ground truth of its kind."""
    everywhere = np.arange(len(batch))
    places = everywhere[batch.objects.masked] if metric.truth == "mask" else everywhere
    every = undefined(metric, batch)
    reasons = [every[place] for place in places]
    with np.errstate(invalid="ignore", divide="ignore"):  # of maps that are undefined, which are taken out below
        computed = metric.compute(batch)
    numbers = computed.reshape(len(batch), -1)[places].astype(np.float64)
    numbers[[reason is not None for reason in reasons]] = np.nan
    return Measured(places, numbers, reasons, metric.at(batch.settings, batch.shape[1]))


def lines(rows: npt.ArrayLike, batch: Batch, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the lines of the table `LOCALISATION` for a batch.

    Args:
        rows: the number of each map's row, (N,).
        batch: the maps; its scores may be None if no metric asks for them.
        names: of the metrics; None for all. Those that need scores are left out where the batch has none.

    Returns:
        The lines, metric by metric; one that is undefined has one line a map, at nothing in particular.
    """
    every_row = np.asarray(rows, np.int64)
    parts = []
    for name in names if names is not None else METRICS:
        metric = METRICS[name]
        if metric.forward and batch.scores is None:
            continue
        measured = measure(metric, batch)
        missing = np.array([reason is not None for reason in measured.reasons], bool)
        defined = measured.places[~missing]
        steps = measured.numbers.shape[1]
        at = np.tile(np.full(steps, np.nan) if measured.at is None else measured.at, len(defined))
        parts.append(_part(np.repeat(every_row[defined], steps), name, at, measured.numbers[~missing].ravel(), None))
        reasons = [reason for reason in measured.reasons if reason is not None]
        gone = every_row[measured.places[missing]]
        parts.append(_part(gone, name, np.full(len(gone), np.nan), np.full(len(gone), np.nan), reasons))
    return pd.concat(parts, ignore_index=True) if parts else LOCALISATION.from_lines([])


def _part(
    rows: npt.NDArray[np.int64], name: str, at: Floats, values: Floats, reasons: list[str] | None
) -> pd.DataFrame:  # fmt: skip
    masked = {column: pd.array(numbers, dtype="Float64") for column, numbers in (("at", at), ("value", values))}
    said = np.full(len(rows), None, object) if reasons is None else np.array(reasons, object)
    return pd.DataFrame({"row": rows, "metric": np.full(len(rows), name, object), **masked, "reason": said})


def aggregate(name: str, table: pd.DataFrame, weights: Floats | None = None) -> Floats:
    """Return the number that a metric gives a set of maps.

    Args:
        name: of the metric.
        table: lines of `LOCALISATION`, of that metric and others.
        weights: (R, N), how often each image counts in each of R resamples, the images being the table's rows of this
            metric in ascending order; None for once each.

    Returns:
        float64 (R,), or (1,) without weights; NaN where no image with a value counts.
    """
    own = table[table["metric"] == name]
    numbers, which = np.unique(own["row"].to_numpy(), return_inverse=True)
    present = own["value"].notna().to_numpy()
    places = pd.Index(own["at"].to_numpy(np.float64, na_value=-1.0)[present]).unique()
    values = np.full((len(numbers), max(len(places), 1)), np.nan)
    at = own["at"].to_numpy(np.float64, na_value=-1.0)[present]
    values[which[present], places.get_indexer(at)] = own["value"].to_numpy(np.float64, na_value=np.nan)[present]
    return METRICS[name].aggregate(values, np.ones((1, len(numbers))) if weights is None else weights)
