"""A valid example of every table, made from its declaration, and what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from pipeline.core.tables import Column, Table
from pipeline.data.prepared import BOXES, IMAGES, PLAN, SPLITS
from pipeline.metrics.faithfulness.tables import FAITHFULNESS, LIMITS
from pipeline.metrics.localisation.tables import BOX_STUDY, FRAME_BOXES, LOCALISATION, OBJECTS
from pipeline.metrics.scores import SCORES
from pipeline.models.cell import ROWS
from pipeline.results.faithfulness_means import FAITHFULNESS_MEANS
from pipeline.results.localisation_means import BOX_STUDY_MEANS, LOCALISATION_MEANS
from pipeline.results.summary import COSE, TRANSFORM_MEANS
from pipeline.saliency.explanations import INDEX

TABLES = {
    table.name: table
    for table in (
        IMAGES,
        BOXES,
        SPLITS,
        PLAN,
        ROWS,
        INDEX,
        SCORES,
        FAITHFULNESS,
        LIMITS,
        OBJECTS,
        FRAME_BOXES,
        LOCALISATION,
        BOX_STUDY,
        COSE,
        TRANSFORM_MEANS,
        FAITHFULNESS_MEANS,
        LOCALISATION_MEANS,
        BOX_STUDY_MEANS,
    )
}
COUNT = 4
VALUES: dict[str, Callable[[int], Any]] = {
    "int64": lambda i: i,
    "float64": lambda i: i / 10,
    "string": lambda i: f"name {i}",
    "bool": lambda i: bool(i % 2),
    "binary": lambda i: bytes([i]),
}
KINDS = {
    "turn": [0] * 4,
    "image": [5] * 4,
    "kind": ["reference", "transform", "random", "checkpoint"],
    "transform": ["identity", "rotate", "identity", "identity"],
    "magnitude": [None, 3.5, None, None],
    "progress": [None, None, None, 10],
    "layers": [None, None, None, None],
    "reference": [0] * 4,
    "state": ["trained", "random", "epoch_001", "epoch_1000"],
}
"""Columns whose values hang together, in the tables that follow from the plan."""
REASONS = ["why", None, None, None]
"""Of values that are undefined, which the first one of an example is."""


def _values(table: Table, column: Column) -> list[Any]:
    if column.name in KINDS and table in (PLAN, ROWS, INDEX, SCORES):
        return KINDS[column.name]
    if column.name == "metric":
        return [f"metric_{i}" for i in range(COUNT)]
    if column.name == "digest":
        return [f"{i:016x}" for i in range(COUNT)]
    if column.name == "reason":
        return REASONS
    if column.allowed is not None:
        return [column.allowed[i % len(column.allowed)] for i in range(COUNT)]
    values = [VALUES[column.kind](i) for i in range(COUNT)]
    if column.kind == "float64":
        ends = {"_low": -0.1, "_high": 0.1, "right": 3, "bottom": 2, "maximum": 0.5}
        values = [value + sum(add for end, add in ends.items() if column.name.endswith(end)) for value in values]
    return [None, *values[1:]] if column.nullable else values


def example(table: Table) -> pd.DataFrame:
    """Return a valid table of four rows, with a null in every column that may have one."""
    columns = {column.name: _values(table, column) for column in table.columns}
    return table.from_lines([{name: values[i] for name, values in columns.items()} for i in range(COUNT)])


def changed(table: Table, row: int, **values: Any) -> pd.DataFrame:
    """Return the example with other values in one row."""
    frame = example(table)
    lines = frame.astype(object).where(frame.notna(), None).to_dict("records")
    lines[row] |= values
    return table.from_lines(lines)
