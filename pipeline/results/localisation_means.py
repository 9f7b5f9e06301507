"""What localisation metrics and the box study say of the whole grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.grid import CellSettings
from pipeline.core.tables import Column, Table, at_least, null_where, read
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings, interval, mean_of, resample
from pipeline.metrics.localisation.box_study import OF_MAP
from pipeline.metrics.localisation.metric import METRICS
from pipeline.metrics.localisation.tables import (
    BOX_STUDY,
    LOCALISATION,
    localisation_folder,
    objects_folder,
    table_file,
)
from pipeline.saliency.explanations import read_about

Floats = npt.NDArray[np.float64]

_NAMES = (
    Column("cell", "string", "name of the cell"),
    Column("dataset", "string", "name of the data set"),
    Column("model", "string", "name of the model"),
)
_METRIC = Column(
    "metric",
    "string",
    "name of the metric; null where nothing is measured",
    nullable=True,
    pattern="[a-z][a-z0-9_]*",
)
_NUMBERS = (
    Column("mean", "float64", "its number over the images; null where no image has a value", nullable=True),
    Column("low", "float64", "lower end of its interval", nullable=True),
    Column("high", "float64", "upper end of its interval", nullable=True),
    Column("images", "int64", "images with a value", minimum=0),
    Column("undefined", "int64", "images with ground truth and without a value", minimum=0),
    Column("missing", "string", "why nothing is measured; null where something is", nullable=True),
)
_RULES = (at_least("high", "low"), null_where("mean", lambda table: table["images"] == 0, "images==0"))

LOCALISATION_MEANS = Table(
    "localisation_means",
    "What every localisation metric says of a method on a cell, or why it is not measured.",
    (*_NAMES, Column("method", "string", "name of the method"), _METRIC, *_NUMBERS),
    ("cell", "method", "metric"),
    _RULES,
    may_be_empty=True,
)

BOX_STUDY_MEANS = Table(
    "box_study_means",
    "Means of masking metrics over images, of boxes, of the rest and of maps cut to either; none for a cell without "
    "boxes.",
    (
        *_NAMES,
        Column("method", "string", "name of the method; `box` or `outside_box` where these stand for a map"),
        Column("part", "string", "what of the map the picture is masked with", allowed=OF_MAP),
        _METRIC,
        *_NUMBERS[:-1],
    ),
    ("cell", "method", "part", "metric"),
    _RULES,
    may_be_empty=True,
)
NOTHING: dict[str, Any] = {"metric": None, "mean": None, "low": None, "high": None, "images": 0, "undefined": 0}
"""What a line says where nothing is measured."""
NO_TRUTH = {"boxes": "no image has a box", "mask": "no image has a mask"}
"""Why a metric is not measured, by the ground truth that it needs."""


@dataclass(frozen=True)
class Resamples:
    """How images are resampled for intervals.

    Attributes:
        weights: float64 (R, images), how often each image counts, in the order in which the images were drawn.
        confidence: of an interval.
        dataset: name of the data set, for messages.
    """

    weights: Floats
    confidence: float
    dataset: str

    def check(self, turns: pd.Series, what: str) -> None:
        """Refuse rows of a larger plan than that of params.yaml."""
        images = self.weights.shape[1]
        if len(turns) and turns.max() >= images:
            raise UserError(f"{what} of {self.dataset}: found an image with turn {turns.max()}; allowed: less than "
                            f"{images} (plan.images); `dvc repro` makes it again")  # fmt: skip


def summarize_localisation(
    cells: Mapping[str, CellSettings],
    methods: Sequence[str],
    metrics: Sequence[str],
    plan: PlanSettings,
    settings: StatisticsSettings,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables `LOCALISATION_MEANS` and `BOX_STUDY_MEANS` from what was measured of the grid.

    Args:
        cells: of the grid, by their names.
        methods: names.
        metrics: names of the localisation metrics that are measured where there is ground truth.
        plan: says how many images each data set has.
        settings: of the intervals.
        seed: the user's.

    Raises:
        UserError: something is missing or broken.
    """
    lines: list[dict[str, Any]] = []
    study: list[dict[str, Any]] = []
    for name, cell in cells.items():
        names = {"cell": name, "dataset": cell.dataset, "model": cell.model}
        weights = resample(plan.explained(cell.dataset), settings, seed, cell.dataset)
        resamples = Resamples(weights, settings.confidence, cell.dataset)
        boxes = read(BOX_STUDY, table_file(objects_folder(name), BOX_STUDY))
        for part, rows in boxes.groupby("part", sort=False):
            study += [names | {"method": part} | line for line in summarize_study(rows.assign(part="map"), resamples)]
        for method in methods:
            own = names | {"method": method}
            folder = localisation_folder(name, method)
            reason = read_about(folder).left_out
            if reason is not None:
                lines.append(own | NOTHING | {"missing": reason})
                continue
            measured, parts = (read(table, table_file(folder, table)) for table in (LOCALISATION, BOX_STUDY))
            lines += [own | line for line in summarize(measured, metrics, resamples)]
            study += [own | line for line in summarize_study(parts, resamples)]
    return LOCALISATION_MEANS.from_lines(lines), BOX_STUDY_MEANS.from_lines(study)


def summarize(measured: pd.DataFrame, metrics: Sequence[str], resamples: Resamples) -> list[dict[str, Any]]:
    """Return what localisation metrics say of one method on one cell.

    Args:
        measured: the table `LOCALISATION`.
        metrics: names of those wanted.
        resamples: of the images; those of a data set are resampled as for COSE, so that differences can be paired.

    Returns:
        One mapping per metric, with the columns of `LOCALISATION_MEANS` from there on.

    Raises:
        UserError: the rows are of a larger plan.
    """
    resamples.check(measured["turn"], "localisation")
    lines = []
    for name in metrics:
        rows = measured[measured["metric"] == name]
        truth = METRICS.find(name, "localisation.metrics").truth
        if not len(rows):
            lines.append(NOTHING | {"metric": name, "missing": NO_TRUTH[truth]})
            continue
        images = rows["row"].nunique()
        undefined = int(rows["value"].isna().sum())  # one that is undefined has one line
        ones = np.ones((1, resamples.weights.shape[1]))
        number = float(over_images(name, rows, ones)[0])
        low, high = interval(over_images(name, rows, resamples.weights), images - undefined, resamples.confidence)
        mean = None if np.isnan(number) else number
        lines.append({"metric": name, "mean": mean, "low": low, "high": high, "images": images - undefined,
                      "undefined": undefined, "missing": None})  # fmt: skip
    return lines


def over_images(name: str, rows: pd.DataFrame, weights: Floats) -> Floats:
    """Return the number that a metric gives a set of maps, for every set of weights.

    Args:
        name: of the metric.
        rows: its lines of `LOCALISATION`.
        weights: (R, images), how often each image counts, in the order in which the images were drawn.

    Returns:
        float64 (R,); NaN where no image with a value counts.
    """
    turns, which = np.unique(rows["turn"].to_numpy(), return_inverse=True)
    at = rows["at"].to_numpy(np.float64, na_value=-1.0)  # at nothing in particular
    value = rows["value"].to_numpy(np.float64, na_value=np.nan)
    present = ~np.isnan(value)
    places, column = np.unique(at[present], return_inverse=True)
    values = np.full((len(turns), max(len(places), 1)), np.nan)
    values[which[present], column] = value[present]
    return METRICS[name].aggregate(values, weights[:, turns])


def summarize_study(measured: pd.DataFrame, resamples: Resamples) -> list[dict[str, Any]]:
    """Return the means of the box study for one method on one cell.

    Args:
        measured: the table `BOX_STUDY`.
        resamples: as for `summarize`.

    Returns:
        One mapping per part and metric, with the columns of `BOX_STUDY_MEANS` from there on.

    Raises:
        UserError: the rows are of a larger plan.
    """
    resamples.check(measured["turn"], "box study")
    lines = []
    for (part, metric), rows in measured.groupby(["part", "metric"], sort=False):
        values = rows["value"].to_numpy(dtype=np.float64, na_value=np.nan)
        mean = mean_of(values, rows["turn"].to_numpy(), None, resamples.weights)
        low, high = interval(mean.replicates, mean.images, resamples.confidence)
        lines.append({"part": part, "metric": metric, "mean": mean.value, "low": low, "high": high,
                      "images": mean.images, "undefined": mean.undefined})  # fmt: skip
    return lines


def headline(means: pd.DataFrame, metrics: Sequence[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return a few numbers for `dvc metrics diff`: ``{metric: {method: {cell: number}}}``."""
    nested: dict[str, dict[str, dict[str, float | None]]] = {}
    for line in means[means["metric"].isin(metrics) & means["missing"].isna()].itertuples():
        value = None if pd.isna(line.mean) else round(float(line.mean), 6)
        nested.setdefault(line.metric, {}).setdefault(line.method, {})[line.cell] = value
    return nested
