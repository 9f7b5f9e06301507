"""What the objects and localisation stages leave of a cell, and what they depend on of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.documents import as_document, read_document
from pipeline.core.files import DATA, GRID
from pipeline.core.names import checked, checked_cell
from pipeline.core.params import Settings, Strings
from pipeline.core.tables import Column, Table
from pipeline.data.prepared import ROW, TURN
from pipeline.metrics.faithfulness.metric import METRICS as MASKING
from pipeline.metrics.faithfulness.tables import METRIC_NAME, VALUE, VALUE_OR_REASON
from pipeline.metrics.localisation.batch import LocalisationSettings
from pipeline.metrics.localisation.box_study import ALONE, OF_MAP

ENTRY = GRID / "localisation.json"
"""File with the section ``localisation`` of params.yaml, and what else of it counts; check_params writes it."""

OUTSIDE = "no part of the object is in the frame"
FLAT = "all values of the map are equal"
NOTHING_POSITIVE = "no value of the map is positive"
"""Why a localisation metric has no value."""

_IMAGE = Column("image", "int64", "number of the image in the dataset", minimum=0)

OBJECTS = Table(
    "objects",
    "What is known of the objects on the explained images of a cell.",
    (
        _IMAGE,
        Column("boxes", "int64", "boxes in the image file; 0 for an image without", minimum=0),
        Column(
            "mask",
            "binary",
            "bytes of a PNG in the network's frame, 255 on the object; null for an image without",
            nullable=True,
        ),
    ),
    ("image",),
)

FRAME_BOXES = Table(
    "frame_boxes",
    "The boxes of the explained images in the network's frame, in pixels; those of which nothing is left are not here "
    "in the corrected reading.",
    (
        _IMAGE,
        Column("number", "int64", "number of the box among those of the image that are here", minimum=0),
        Column("left", "int64", "first column"),
        Column("top", "int64", "first row"),
        Column("right", "int64", "one more than the last column"),
        Column("bottom", "int64", "one more than the last row"),
    ),
    ("image", "number"),
    may_be_empty=True,
)

LOCALISATION = Table(
    "localisation",
    "How well the map of every unperturbed image lies on the image's object; rows only for images with ground truth "
    "of the kind that a metric needs.",
    (
        ROW,
        TURN,
        METRIC_NAME,
        Column(
            "at",
            "float64",
            "where the value was taken: the threshold, or the radius in pixels; null where there is one value a map",
            nullable=True,
            minimum=0,
        ),
        *VALUE,
    ),
    ("row", "metric", "at"),
    VALUE_OR_REASON,
    may_be_empty=True,
)

BOX_STUDY = Table(
    "box_study",
    "What masking metrics say of the boxes, of the rest and of maps cut to either, on images of which a box is in the "
    "frame.",
    (
        ROW,
        TURN,
        Column("part", "string", "what the picture is masked with", allowed=(*ALONE, *OF_MAP)),
        METRIC_NAME,
        *VALUE,
    ),
    ("row", "part", "metric"),
    VALUE_OR_REASON,
    may_be_empty=True,
)


class LocalisationParams(LocalisationSettings):
    """The section ``localisation`` of params.yaml.

    Attributes:
        metrics: names of the metrics that are measured.
        box_study: names of masking metrics of the section ``faithfulness``, whose settings they have; none for no
            study.
    """

    metrics: Strings
    box_study: Strings


class LocalisationEntry(Settings):
    """What `ENTRY` holds.

    Attributes:
        seed: the user's.
        chosen: the section.
        masking: settings of each metric of the box study, by its name.
    """

    seed: int
    chosen: LocalisationParams
    masking: dict[str, dict[str, Any]]


class Entry(NamedTuple):
    """The same, the settings as those of their metric."""

    seed: int
    chosen: LocalisationParams
    masking: dict[str, Settings]


def read_chosen() -> LocalisationParams:
    """Return what is measured; a file that does not fit is a `UserError`."""
    return read_document(ENTRY, LocalisationEntry).chosen


def read_entry() -> Entry:
    """Return what is measured and how; a file that does not fit is a `UserError`."""
    entry = read_document(ENTRY, LocalisationEntry)
    masking = {
        name: as_document(raw, MASKING.find(name, "localisation.box_study").settings, ENTRY)
        for name, raw in entry.masking.items()
    }
    return Entry(entry.seed, entry.chosen, masking)


def objects_folder(cell: str) -> Path:
    """Return the folder of the objects on a cell's images."""
    return DATA / "objects" / checked_cell(cell)


def localisation_folder(cell: str, method: str) -> Path:
    """Return the folder of the localisation of a method on a cell."""
    return DATA / "localisation" / checked_cell(cell) / checked(method, "method")


def table_file(folder: Path, table: Table) -> Path:
    """Return where one of the tables of this module lies in its folder."""
    return folder / f"{table.name}.parquet"
