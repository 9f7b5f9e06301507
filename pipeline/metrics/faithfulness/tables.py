"""What the faithfulness stages leave of a cell, and what they depend on of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.documents import as_document, read_document
from pipeline.core.files import DATA, GRID
from pipeline.core.names import checked, checked_cell
from pipeline.core.params import Settings
from pipeline.core.tables import Column, Table, at_least, null_where, present_where
from pipeline.data.prepared import ROW, TURN
from pipeline.metrics.faithfulness.metric import METRICS

ENTRY = GRID / "faithfulness.json"
"""File with the section ``faithfulness`` of params.yaml and the seed; check_params writes it."""

METRIC_NAME = Column("metric", "string", "name of the metric", pattern="[a-z][a-z0-9_]*")
VALUE = (
    Column("value", "float64", "the metric's value; null where it is undefined", nullable=True),
    Column("reason", "string", "why it is undefined; null where it is not", nullable=True),
)
VALUE_OR_REASON = (
    null_where("reason", lambda table: table["value"].notna(), "value.notnull()"),
    present_where("reason", lambda table: table["value"].isna(), "value.isnull()"),
)

FAITHFULNESS = Table(
    "faithfulness",
    "What every faithfulness metric says of the map of each unperturbed image under the trained model.",
    (
        ROW,
        TURN,
        METRIC_NAME,
        Column(
            "at",
            "float64",
            "percent of the pixels that are removed; null where the metric has one value, or for the mean",
            nullable=True,
            minimum=0,
            maximum=100,
        ),
        *VALUE,
    ),
    ("row", "metric", "at"),
    VALUE_OR_REASON,
)

LIMITS = Table(
    "limits",
    "Areas under curves that the worst and the best orders of patches reach on each image, whatever the method.",
    (
        ROW,
        METRIC_NAME,
        Column("least", "float64", "least area", minimum=0, maximum=1),
        Column("greatest", "float64", "greatest area", minimum=0, maximum=1),
    ),
    ("row", "metric"),
    (at_least("greatest", "least"),),
    may_be_empty=True,
)


class FaithfulnessEntry(Settings):
    """What `ENTRY` holds.

    Attributes:
        seed: the user's.
        metrics: settings of each metric that is measured, by its name.
    """

    seed: int
    metrics: dict[str, dict[str, Any]]


class Entry(NamedTuple):
    """The same, the settings as those of their metric."""

    seed: int
    metrics: dict[str, Settings]


def read_entry() -> Entry:
    """Return the seed, and the settings of each metric; a file that does not fit is a `UserError`."""
    entry = read_document(ENTRY, FaithfulnessEntry)
    found = {
        name: as_document(raw, METRICS.find(name, "faithfulness").settings, ENTRY)
        for name, raw in entry.metrics.items()
    }
    return Entry(entry.seed, found)


def faithfulness_folder(cell: str, method: str) -> Path:
    """Return the folder of the faithfulness of a method on a cell."""
    return DATA / "faithfulness" / checked_cell(cell) / checked(method, "method")


def faithfulness_file(folder: Path) -> Path:
    """Return the table `FAITHFULNESS` in a folder."""
    return folder / f"{FAITHFULNESS.name}.parquet"


def limits_folder(cell: str) -> Path:
    """Return the folder of the limits of a cell."""
    return DATA / "limits" / checked_cell(cell)


def limits_file(folder: Path) -> Path:
    """Return the table `LIMITS` in a folder."""
    return folder / f"{LIMITS.name}.parquet"
