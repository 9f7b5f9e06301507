"""What localisation metrics and the box study say of the whole grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.grid import CellSettings
from pipeline.core.tables import Column, Table, read
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings
from pipeline.metrics.localisation.box_study import OF_MAP
from pipeline.metrics.localisation.metric import METRICS
from pipeline.metrics.localisation.tables import (
    BOX_STUDY,
    LOCALISATION,
    localisation_folder,
    objects_folder,
    table_file,
)
from pipeline.results.means import (
    CELL,
    METHOD,
    METRIC,
    MISSING,
    NOTHING,
    NUMBERS,
    RULES,
    Floats,
    Resamples,
    means,
    named,
)
from pipeline.saliency.explanations import why_nothing

LOCALISATION_MEANS = Table(
    "localisation_means",
    "What every localisation metric says of a method on a cell, or why it is not measured.",
    (*CELL, METHOD, METRIC, *NUMBERS, MISSING),
    ("cell", "method", "metric"),
    RULES,
    may_be_empty=True,
)

BOX_STUDY_MEANS = Table(
    "box_study_means",
    "Means of masking metrics over images, of boxes, of the rest and of maps cut to either; none for a cell without "
    "boxes.",
    (
        *CELL,
        Column("method", "string", "name of the method; `box` or `outside_box` where these stand for a map"),
        Column("part", "string", "what of the map the picture is masked with", allowed=OF_MAP),
        METRIC,
        *NUMBERS,
    ),
    ("cell", "method", "part", "metric"),
    RULES,
    may_be_empty=True,
)
NO_TRUTH = {"boxes": "no image has a box", "mask": "no image has a mask"}
"""Why a metric is not measured, by the ground truth that it needs."""


def summarize_localisation(
    cells: Mapping[str, CellSettings],
    methods: Sequence[str],
    metrics: Sequence[str],
    plan: PlanSettings,
    *,
    settings: StatisticsSettings,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables `LOCALISATION_MEANS` and `BOX_STUDY_MEANS` from what was measured of the grid.

    Args:
        cells: of the grid, by their names.
        methods: names.
        metrics: names of the localisation metrics that are measured where there is ground truth.
        plan: says how many images each dataset has.
        settings: of the intervals.
        seed: the user's.

    Raises:
        UserError: something is missing or broken.
    """
    lines: list[dict[str, Any]] = []
    study: list[dict[str, Any]] = []
    for name, cell in cells.items():
        of_cell: dict[str, Any] = named(name, cell)
        resamples = Resamples.of(cell.dataset, plan, settings, seed)
        of_objects = table_file(objects_folder(name), BOX_STUDY)
        boxes = read(BOX_STUDY, of_objects) if of_objects.exists() else BOX_STUDY.from_lines([])
        for part, rows in boxes.groupby("part", sort=False):
            own = of_cell | {"method": part}
            study += [own | line for line in summarize_study(rows.assign(part="map"), resamples)]
        for method in methods:
            own = of_cell | {"method": method}
            folder = localisation_folder(name, method)
            reason = why_nothing(folder)
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
        resamples: of the images.

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
        between = resamples.interval(over_images(name, rows, resamples.weights), images - undefined)
        lines.append(
            {
                "metric": name,
                "mean": None if np.isnan(number) else number,
                **between,
                "images": images - undefined,
                "undefined": undefined,
                "missing": None,
            }
        )
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
    return means(measured, ["part", "metric"], resamples)
