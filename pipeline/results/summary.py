"""The tables over the whole grid: COSE and what it is made of, one row per cell, method, protocol and similarity."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core.computed_by import ComputedBy
from pipeline.core.files import DATA
from pipeline.core.grid import CellSettings
from pipeline.core.params import PARAMS
from pipeline.core.tables import Column, Table, at_least, read
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import GROUPS, PROTOCOLS, StatisticsSettings, by_perturbation, summarize
from pipeline.metrics.scores import SCORES, SIMILARITIES, scores_file, scores_folder
from pipeline.models.training_metrics import FOLDER, training_curve_file, training_metrics_file
from pipeline.saliency.explanations import NOT_COMPUTED, Computing, read_about, why_nothing


def _interval(name: str, meaning: str) -> tuple[Column, ...]:
    return (
        Column(name, "float64", meaning, nullable=True, minimum=-1, maximum=2),
        Column(f"{name}_low", "float64", f"lower end of the interval of {name}", nullable=True, minimum=-1, maximum=2),
        Column(f"{name}_high", "float64", f"upper end of the interval of {name}", nullable=True, minimum=-1, maximum=2),
    )


def _counted(name: str, meaning: str) -> tuple[Column, ...]:
    return (
        *_interval(name, meaning),
        Column(f"{name}_rows", "int64", f"rows with a defined similarity behind {name}", minimum=0),
        Column(f"{name}_images", "int64", f"images with such rows behind {name}", minimum=0),
        Column(
            f"{name}_undefined",
            "int64",
            f"rows of {name} left out because their similarity is undefined (a flat map)",
            minimum=0,
        ),
    )


_CELL = (
    Column("cell", "string", "name in params.yaml"),
    Column("dataset", "string", "name in params.yaml"),
    Column("model", "string", "name in params.yaml"),
    Column("method", "string", "name in params.yaml"),
)

COSE = Table(
    "cose",
    "The benchmark's numbers: one row per cell, method, protocol and similarity.",
    (
        *_CELL,
        Column("protocol", "string", "how rows are chosen and pooled", allowed=PROTOCOLS),
        Column("similarity", "string", "how maps are compared", allowed=SIMILARITIES),
        *_interval("cose", "root of consistency times sensitivity; null where there is no root"),
        *(column for name, meaning in GROUPS.items() for column in _counted(name, meaning)),
        Column("missing", "string", "why the method does not explain the cell; null where it does", nullable=True),
    ),
    ("cell", "method", "protocol", "similarity"),
    (at_least("cose_high", "cose_low"), at_least("consistency_high", "consistency_low")),
)

TRANSFORM_MEANS = Table(
    "transforms",
    "Mean similarity per cell, method, perturbation and outcome: the numbers behind the means.",
    (
        *_CELL,
        Column("similarity", "string", "how maps are compared", allowed=SIMILARITIES),
        Column("perturbation", "string", "name of the transform, or `random`, `checkpoint` or `layers`"),
        Column(
            "outcome",
            "string",
            "what became of the prediction",
            allowed=("kept_right", "kept_wrong", "changed_right", "changed_wrong"),
        ),
        Column("mean", "float64", "mean similarity; null without defined rows", nullable=True, minimum=-1, maximum=1),
        Column("rows", "int64", "rows with a defined similarity", minimum=0),
        Column("undefined", "int64", "rows without", minimum=0),
    ),
    ("cell", "method", "similarity", "perturbation", "outcome"),
)


def summary_file(table: Table) -> Path:
    """Return where one of the tables of this module lies."""
    return DATA / "aggregates" / f"{table.name}.parquet"


def without_numbers(reason: str) -> list[dict[str, Any]]:
    """Return the lines of `COSE` for a method that does not explain a cell, apart from their names."""
    counts = {f"{name}_{count}": 0 for name in GROUPS for count in ("rows", "images", "undefined")}
    numbers: dict[str, Any] = {f"{name}{end}": None for name in ("cose", *GROUPS) for end in ("", "_low", "_high")}
    return [
        {"protocol": protocol, "similarity": similarity, "missing": reason} | numbers | counts
        for protocol in PROTOCOLS
        for similarity in SIMILARITIES
    ]


def summarize_grid(
    cells: Mapping[str, CellSettings],
    methods: Sequence[str],
    plan: PlanSettings,
    settings: StatisticsSettings,
    *,
    seed: int,
    scored: Container[tuple[str, str]] | None = None,
) -> dict[str, pd.DataFrame]:
    """Return the tables `COSE` and `TRANSFORM_MEANS`, by name, from the scores of the grid.

    Args:
        cells: of the grid, by their names.
        methods: names.
        plan: says how many images each dataset has.
        settings: of the intervals.
        seed: the user's.
        scored: pairs of a cell's and a method's name that there are scores of; None for all of them.

    Raises:
        UserError: scores are missing or broken.
    """
    numbers: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for (name, cell), method in product(cells.items(), methods):
        if scored is not None and (name, method) not in scored:
            continue
        names = {"cell": name, "dataset": cell.dataset, "model": cell.model, "method": method}
        folder = scores_folder(name, method)
        reason = why_nothing(folder)
        if reason is not None:
            numbers += [names | line for line in without_numbers(reason)]
            continue
        scores = read(SCORES, scores_file(folder))
        lines = summarize(scores, plan.explained(cell.dataset), settings, seed, dataset=cell.dataset)
        numbers += [names | line | {"missing": None} for line in lines]
        means += [names | line for line in by_perturbation(scores)]
    return {COSE.name: COSE.from_lines(numbers), TRANSFORM_MEANS.name: TRANSFORM_MEANS.from_lines(means)}


COMPUTED: dict[Computing, str] = {"train": "networks", "predict": "predictions", "explain": "maps"}
"""What the stages that differ between computers compute."""


def mixed(cells: Mapping[str, CellSettings], methods: Sequence[str]) -> list[str]:
    """Say, one line each, where networks, predictions or maps of the grid were not all computed alike.

    Their rounding then differs. Images per evaluation follow from the image size, so they are compared within each
    dataset; batch and precision of a training are settings, and are not compared.
    """
    folders = {(name, method): scores_folder(name, method) for name, method in product(cells, methods)}
    by_pair = {
        pair: read_about(folder).computed_by for pair, folder in folders.items() if why_nothing(folder) != NOT_COMPUTED
    }
    notes = []
    for stage, computed in COMPUTED.items():
        found: dict[ComputedBy, list[str]] = {}
        sizes: dict[str, set[int]] = {}
        for (name, method), stages in by_pair.items():
            by = stages.get(stage)
            if by is None:
                continue
            one = f"{name}-{method}" if stage == "explain" else name
            settings = {"batch": 0} | ({"precision": ""} if stage == "train" else {})
            alike = found.setdefault(by.model_copy(update=settings), [])
            if one not in alike:
                alike.append(one)
            sizes.setdefault(cells[name].dataset, set()).add(by.batch)
        if len(found) > 1:
            kinds = "; ".join(
                f"{', '.join(filter(None, (by.device, f'torch {by.torch}', by.precision)))}: {len(alike)} (such as "
                f"{alike[0]})"
                for by, alike in sorted(found.items(), key=lambda item: -len(item[1]))
            )
            notes.append(f"note: the table mixes {computed} that were computed differently: {kinds}")
        for dataset, batches in sizes.items():
            if len(batches) > 1 and stage != "train":
                counts = ", ".join(map(str, sorted(batches)))
                notes.append(
                    f"note: {computed} of {dataset} were computed with different images per evaluation: {counts}"
                )
    return notes


def absent(cells: Iterable[str], methods: Sequence[str]) -> list[str]:
    """Say in a line which scores of the grid are not there: what depends on a stage that failed is not computed."""
    left = [
        f"score@{name}-{method}"
        for name, method in product(cells, methods)
        if why_nothing(scores_folder(name, method)) == NOT_COMPUTED
    ]
    if not left:
        return []
    shown = ", ".join(left[:6]) + (f" and {len(left) - 6} more" if len(left) > 6 else "")
    return [f"note: not computed, and without numbers in the tables: {shown}; `dvc repro` makes them"]


def leftovers(cells: Iterable[str]) -> list[str]:
    """Say in a line which files of training metrics belong to no cell of the grid."""
    own = {path for cell in cells for path in (training_metrics_file(cell), training_curve_file(cell))}
    left = sorted(str(path) for path in FOLDER.glob("*.*") if path not in own)
    if not left:
        return []
    shown = ", ".join(left[:6]) + (f" and {len(left) - 6} more" if len(left) > 6 else "")
    return [f"note: of no cell in {PARAMS}, and not in the tables: {shown}"]
