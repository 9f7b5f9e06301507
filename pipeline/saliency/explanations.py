"""What the explain stage leaves of a cell: a map for every row, their index, and what is said about all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pipeline.core.computed_by import ComputedBy
from pipeline.core.documents import read_document
from pipeline.core.files import DATA, GRID
from pipeline.core.names import checked, checked_cell
from pipeline.core.params import Settings
from pipeline.core.tables import Column, Table, at_least
from pipeline.data.prepared import ROW
from pipeline.models.cell import STATE
from pipeline.saliency.map_file import Values

MAPS = "maps.npy"
ABOUT = "about.json"
"""What is said about all maps of a cell: the kind of their values, what computed them, or why there are none."""

INDEX = Table(
    "index",
    "One row per map of a cell; map number i of maps.npy belongs to row i. All rows of the cell, or those of the "
    "images first drawn.",
    (
        ROW,
        STATE,
        Column("target", "int64", "class that the map explains: the row's own prediction", minimum=0),
        Column("minimum", "float64", "least value of the map", minimum=-1, maximum=1),
        Column("maximum", "float64", "greatest value of the map", minimum=-1, maximum=1),
        Column("flat", "bool", "whether all values are equal, so that similarities are undefined"),
        Column("digest", "string", "of the map as it is stored", pattern="[0-9a-f]{16}"),
    ),
    ("row",),
    (at_least("maximum", "minimum"),),
)


def explanations_folder(cell: str, method: str) -> Path:
    """Return the folder of a method's maps of a cell."""
    return DATA / "explanations" / checked_cell(cell) / checked(method, "method")


def index_file(folder: Path) -> Path:
    """Return the table `INDEX` in a folder of explanations."""
    return folder / f"{INDEX.name}.parquet"


def explain_entry_file(cell: str, method: str) -> Path:
    """Return the file that says how a method explains a cell, or why it does not."""
    return GRID / "explain" / checked_cell(cell) / f"{checked(method, 'method')}.json"


class ExplainEntry(Settings):
    """What `explain_entry_file` holds: all of params.yaml that explaining a cell with a method depends on.

    Attributes:
        left_out: why the method does not explain the cell; None if it does; only then do the others apply.
        seed: the user's.
        settings: the method's.
    """

    left_out: str | None
    seed: int | None
    settings: dict[str, Any]


def read_explain_entry(cell: str, method: str) -> ExplainEntry:
    """Return how a method explains a cell; a file that is missing or does not fit is a `UserError`."""
    return read_document(explain_entry_file(cell, method), ExplainEntry)


Computing = Literal["train", "predict", "explain", "measure"]
"""A stage whose results depend on what computed them."""


class About(Settings):
    """What `ABOUT` holds.

    Attributes:
        left_out: why there are no maps; None if there are some.
        values: what kind of values they have.
        computed_by: what computed them, and what they were computed from, by stage; None for weights of the user's,
            and empty where there are no maps.
    """

    left_out: str | None
    values: Values
    computed_by: dict[Computing, ComputedBy | None]


NOT_COMPUTED = "not computed"


def why_nothing(folder: Path) -> str | None:
    """Return why a folder of maps, scores or measurements has none; None if it has some."""
    return read_about(folder).left_out if (folder / ABOUT).exists() else NOT_COMPUTED


def read_about(folder: Path) -> About:
    """Return what is said about the maps in a folder; a file that does not fit is a `UserError`."""
    return read_document(folder / ABOUT, About)
