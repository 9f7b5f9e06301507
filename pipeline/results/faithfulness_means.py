"""Means over images of what faithfulness metrics say, for the whole grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.core.grid import CellSettings
from pipeline.core.tables import Column, Table, read
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings
from pipeline.metrics.faithfulness.tables import FAITHFULNESS, faithfulness_file, faithfulness_folder
from pipeline.results.means import CELL, METHOD, METRIC, MISSING, NOTHING, NUMBERS, RULES, Resamples, means, named
from pipeline.saliency.explanations import why_nothing

FAITHFULNESS_MEANS = Table(
    "faithfulness_means",
    "Mean of every faithfulness metric per cell and method; one line where nothing is measured.",
    (
        *CELL,
        METHOD,
        METRIC,
        Column(
            "at",
            "float64",
            "percent of the pixels that it is about; null where it is about none in particular",
            nullable=True,
            minimum=0,
            maximum=100,
        ),
        *NUMBERS,
        MISSING,
    ),
    ("cell", "method", "metric", "at"),
    RULES,
    may_be_empty=True,
)


def summarize_faithfulness(
    cells: Mapping[str, CellSettings],
    methods: Sequence[str],
    plan: PlanSettings,
    settings: StatisticsSettings,
    *,
    seed: int,
) -> pd.DataFrame:
    """Return the table `FAITHFULNESS_MEANS` from what was measured of the grid.

    Args:
        cells: of the grid, by their names.
        methods: names.
        plan: says how many images each dataset has.
        settings: of the intervals.
        seed: the user's.

    Raises:
        UserError: something is missing or broken.
    """
    lines: list[dict[str, Any]] = []
    for name, cell in cells.items():
        resamples = Resamples.of(cell.dataset, plan, settings, seed)
        for method in methods:
            own = named(name, cell) | {"method": method}
            folder = faithfulness_folder(name, method)
            reason = why_nothing(folder)
            if reason is not None:
                lines.append(own | NOTHING | {"at": None, "missing": reason})
                continue
            measured = read(FAITHFULNESS, faithfulness_file(folder))
            lines += [own | line | {"missing": None} for line in summarize(measured, resamples)]
    return FAITHFULNESS_MEANS.from_lines(lines)


def summarize(measured: pd.DataFrame, resamples: Resamples) -> list[dict[str, Any]]:
    """Return the means of one method on one cell.

    Args:
        measured: the table `FAITHFULNESS`.
        resamples: of the images.

    Returns:
        One mapping per metric and share of the pixels, with the columns of `FAITHFULNESS_MEANS` from there on, but
        ``missing``.

    Raises:
        UserError: the rows are of a larger plan.
    """
    resamples.check(measured["turn"], "faithfulness")
    return means(measured, ["metric", "at"], resamples)
