"""Means over images of what faithfulness metrics say, for the whole grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.grid import CellSettings
from pipeline.core.tables import Column, Table, at_least, null_where, read
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings, interval, mean_of, resample
from pipeline.metrics.faithfulness.tables import FAITHFULNESS, faithfulness_file, faithfulness_folder
from pipeline.saliency.explanations import read_about

FAITHFULNESS_MEANS = Table(
    "faithfulness_means",
    "Mean of every faithfulness metric per cell and method; one line where nothing is measured.",
    (
        Column("cell", "string", "name of the cell"),
        Column("dataset", "string", "name of the data set"),
        Column("model", "string", "name of the model"),
        Column("method", "string", "name of the method"),
        Column(
            "metric",
            "string",
            "name of the metric; null where nothing is measured",
            nullable=True,
            pattern="[a-z][a-z0-9_]*",
        ),
        Column(
            "at",
            "float64",
            "percent of the pixels that it is about; null where it is about none in particular",
            nullable=True,
            minimum=0,
            maximum=100,
        ),
        Column("mean", "float64", "mean over images; null where no image has a value", nullable=True),
        Column("low", "float64", "lower end of its interval", nullable=True),
        Column("high", "float64", "upper end of its interval", nullable=True),
        Column("images", "int64", "images with a value", minimum=0),
        Column("undefined", "int64", "images without one", minimum=0),
        Column("missing", "string", "why nothing is measured; null where something is", nullable=True),
    ),
    ("cell", "method", "metric", "at"),
    (at_least("high", "low"), null_where("mean", lambda table: table["images"] == 0, "images==0")),
    may_be_empty=True,
)
BY = ["metric", "at"]
NOTHING = {"metric": None, "at": None, "mean": None, "low": None, "high": None, "images": 0, "undefined": 0}
"""What a line says where nothing is measured."""


def summarize_faithfulness(
    cells: Mapping[str, CellSettings],
    methods: Sequence[str],
    plan: PlanSettings,
    settings: StatisticsSettings,
    seed: int,
) -> pd.DataFrame:
    """Return the table `FAITHFULNESS_MEANS` from what was measured of the grid.

    Args:
        cells: of the grid, by their names.
        methods: names.
        plan: says how many images each data set has.
        settings: of the intervals.
        seed: the user's.

    Raises:
        UserError: something is missing or broken.
    """
    lines: list[dict[str, Any]] = []
    for (name, cell), method in product(cells.items(), methods):
        names = {"cell": name, "dataset": cell.dataset, "model": cell.model, "method": method}
        folder = faithfulness_folder(name, method)
        reason = read_about(folder).left_out
        if reason is not None:
            lines.append(names | NOTHING | {"missing": reason})
            continue
        measured = read(FAITHFULNESS, faithfulness_file(folder))
        found = summarize(measured, plan.explained(cell.dataset), settings, seed, cell.dataset)
        lines += [names | line | {"missing": None} for line in found]
    return FAITHFULNESS_MEANS.from_lines(lines)


def summarize(
    measured: pd.DataFrame, images: int, settings: StatisticsSettings, seed: int, dataset: str
) -> list[dict[str, Any]]:
    """Return the means of one method on one cell.

    Args:
        measured: the table `FAITHFULNESS`.
        images: how many the plan has.
        settings: resamples and confidence.
        seed: the user's.
        dataset: its name; its images are resampled as those of COSE are, so that differences can be paired.

    Returns:
        One mapping per metric and share of the pixels, with the columns of `FAITHFULNESS_MEANS` from there on, but
        ``missing``.

    Raises:
        UserError: the rows are of a larger plan.
    """
    if len(measured) and measured["turn"].max() >= images:
        raise UserError(f"faithfulness of {dataset}: found an image with turn {measured['turn'].max()}; allowed: less "
                        f"than {images} (plan.images); `dvc repro` makes it again")  # fmt: skip
    weights = resample(images, settings, seed, dataset)
    lines = []
    for key, rows in measured.groupby(BY, sort=False, dropna=False):
        values = rows["value"].to_numpy(dtype=np.float64, na_value=np.nan)
        mean = mean_of(values, rows["turn"].to_numpy(), None, weights)
        low, high = interval(mean.replicates, mean.images, settings.confidence)
        named = {name: None if pd.isna(value) else value for name, value in zip(BY, key, strict=True)}
        lines.append(named | {"mean": mean.value, "low": low, "high": high, "images": mean.images,
                              "undefined": mean.undefined})  # fmt: skip
    return lines


def headline(means: pd.DataFrame, metrics: Sequence[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return a few means for `dvc metrics diff`: ``{metric: {method: {cell: mean}}}``."""
    nested: dict[str, dict[str, dict[str, float | None]]] = {}
    for line in means[means["metric"].isin(metrics) & means["at"].isna()].itertuples():
        value = None if pd.isna(line.mean) else round(float(line.mean), 6)
        nested.setdefault(line.metric, {}).setdefault(line.method, {})[line.cell] = value
    return nested
