"""Means of what is measured of the unperturbed images' maps: faithfulness and localisation, over the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.grid import CellSettings
from pipeline.core.tables import Column, Table, at_least, null_where, read
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings, interval, mean_of, resample
from pipeline.saliency.explanations import read_about

NAMES = tuple(
    Column(name, "string", f"name of the {what}")
    for name, what in (("cell", "cell"), ("dataset", "data set"), ("model", "model"), ("method", "method"))
)
AT = Column(
    "at", "float64", "percent of the pixels that it is about; null where it is about none in particular", nullable=True,
    minimum=0, maximum=100,
)  # fmt: skip


def means_table(name: str, about: str, further: Sequence[Column] = ()) -> Table:
    """Declare a table of means.

    Args:
        name: of the table.
        about: what it holds.
        further: columns that tell its numbers apart, beside cell, method, metric and at.
    """
    return Table(
        name,
        about,
        (
            *NAMES,
            *further,
            Column(
                "metric",
                "string",
                "name of the metric; null where nothing is measured",
                nullable=True,
                pattern="[a-z][a-z0-9_]*",
            ),
            AT,
            Column("mean", "float64", "mean over images; null where no image has a value", nullable=True),
            Column("low", "float64", "lower end of its interval", nullable=True),
            Column("high", "float64", "upper end of its interval", nullable=True),
            Column("images", "int64", "images with a value", minimum=0),
            Column("undefined", "int64", "images without one", minimum=0),
            Column("missing", "string", "why nothing is measured; null where something is", nullable=True),
        ),
        ("cell", "method", *(column.name for column in further), "metric", "at"),
        (at_least("high", "low"), null_where("mean", lambda table: table["images"] == 0, "images==0")),
        may_be_empty=True,
    )


FAITHFULNESS = means_table("faithfulness_means", "Mean of every faithfulness metric per cell and method.")


def summarize_means(
    table: pd.DataFrame, images: int, settings: StatisticsSettings, seed: int, dataset: str,
    by: Sequence[str] = ("metric", "at"),
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the means of a method's values on a cell.

    Args:
        table: long rows with the columns ``turn``, ``value`` and those of ``by``; one value an image.
        images: how many the plan has.
        settings: resamples and confidence.
        seed: the user's.
        dataset: its name; the images are resampled as those of COSE are, so that differences can be paired.
        by: what tells numbers apart.

    Returns:
        One mapping per combination, in the order of the table: those of ``by``, mean, low, high, images, undefined.

    Raises:
        UserError: the rows are of a larger plan.
    """
    if len(table) and table["turn"].max() >= images:
        raise UserError(f"table of {dataset}: found an image with turn {table['turn'].max()}; allowed: less than "
                        f"{images} (plan.images); `dvc repro` makes it again")  # fmt: skip
    weights = resample(images, settings, seed, dataset)
    lines = []
    for key, rows in table.groupby(list(by), sort=False, dropna=False):
        values = rows["value"].to_numpy(dtype=np.float64, na_value=np.nan)
        mean = mean_of(values, rows["turn"].to_numpy(), None, weights)
        low, high = interval(mean.replicates, mean.images, settings.confidence)
        named = {name: None if pd.isna(value) else value for name, value in zip(by, key, strict=True)}
        lines.append(named | {"mean": mean.value, "low": low, "high": high, "images": mean.images,
                              "undefined": mean.undefined})  # fmt: skip
    return lines


NOTHING = {"mean": None, "low": None, "high": None, "images": 0, "undefined": 0}


def summarize_grid(
    table: Table,
    long: Table,
    folder: Callable[[str, str], Path],
    cells: Mapping[str, CellSettings],
    methods: Sequence[str],
    plan: PlanSettings,
    settings: StatisticsSettings,
    seed: int,
) -> pd.DataFrame:
    """Return the means of every method on every cell.

    Args:
        table: of means, see `means_table`.
        long: the table that they are means of; it lies under its own name in the folders.
        folder: gives the folder of what was measured of a method (second) on a cell (first).
        cells: of the grid, by their names.
        methods: names.
        plan: says how many images each data set has.
        settings: of the intervals.
        seed: the user's.

    Returns:
        A line per metric; one line without a metric's numbers, with the reason, where nothing was measured.

    Raises:
        UserError: something is missing or broken.
    """
    by = [column.name for column in table.columns if column.name in ("part", "metric", "at")]
    lines: list[dict[str, Any]] = []
    for (name, cell), method in product(cells.items(), methods):
        names = {"cell": name, "dataset": cell.dataset, "model": cell.model, "method": method}
        reason = read_about(folder(name, method)).left_out
        if reason is not None:
            lines.append(names | dict.fromkeys(by) | NOTHING | {"missing": reason})
            continue
        measured = read(long, folder(name, method) / f"{long.name}.parquet")
        found = summarize_means(measured, plan.explained(cell.dataset), settings, seed, cell.dataset, by)
        lines += [names | line | {"missing": None} for line in found]
    return table.from_lines(lines)


def headline(table: pd.DataFrame, metrics: Sequence[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return a few means for `dvc metrics diff`: ``{metric: {method: {cell: mean}}}``."""
    nested: dict[str, dict[str, dict[str, float | None]]] = {}
    for line in table[table["metric"].isin(metrics) & table["at"].isna()].itertuples():
        value = None if pd.isna(line.mean) or not math.isfinite(line.mean) else round(float(line.mean), 6)
        nested.setdefault(line.metric, {}).setdefault(line.method, {})[line.cell] = value
    return nested
