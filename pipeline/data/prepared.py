"""What the prepare stage leaves of a dataset: its images, boxes, splits and plan."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.files import DATA
from pipeline.core.names import checked
from pipeline.core.tables import Column, Rule, Table, at_least, null_where, present_where

SPLIT_NAMES = ("train", "validation", "test")
ROW_KINDS = ("reference", "transform", "random", "checkpoint", "layers")

_IMAGE = Column("image", "int64", "number of the image in the dataset", minimum=0)

IMAGES = Table(
    "images",
    "The image files of a dataset, as they came or as they were drawn.",
    (
        _IMAGE,
        Column("encoded", "binary", "bytes of a PNG or JPEG file"),
        Column("mask", "binary", "bytes of a PNG, non-zero where the object is", nullable=True),
    ),
    ("image",),
)

BOXES = Table(
    "boxes",
    "Boxes round the objects of a dataset, where the publisher drew some; an image may have several or none.",
    (
        _IMAGE,
        Column("number", "int64", "number of the box among those of the image", minimum=0),
        *(
            Column(edge, "float64", f"{edge} edge in pixels of the image file, 0 being its {side}", minimum=0)
            for edge, side in (("left", "left"), ("top", "top"), ("right", "left"), ("bottom", "top"))
        ),
    ),
    ("image", "number"),
    (at_least("right", "left", more=True), at_least("bottom", "top", more=True)),
    may_be_empty=True,
)

SPLITS = Table(
    "splits",
    "Label and split of every image of a dataset.",
    (
        _IMAGE,
        Column("name", "string", "readable name, such as the path below the dataset's root"),
        Column("label", "int64", "number of the class", minimum=0),
        Column("class_name", "string", "name of the class"),
        Column("split", "string", "what the image is used for", allowed=SPLIT_NAMES),
    ),
    ("image",),
)

ROW = Column("row", "int64", "number of the row, the same for the same picture and perturbation", minimum=0)
TURN = Column("turn", "int64", "when the image was drawn, from 0; fewer images are those first drawn", minimum=0)
PERTURBATION = (
    _IMAGE,
    Column("kind", "string", "what was perturbed", allowed=ROW_KINDS),
    Column("transform", "string", "name of the input transform; `identity` where the input is as it is"),
    Column(
        "magnitude",
        "float64",
        "strength of the transform (pixels, degrees, or factor - 1)",
        nullable=True,
        minimum=-180,
        maximum=1024,
    ),
)
"""Columns that say what a row's picture is, in the plan and in what follows from it."""
REFERENCE = Column("reference", "int64", "row of the same image, unperturbed, under the trained model", minimum=0)

PERTURBATION_RULES = (
    null_where("magnitude", lambda rows: rows["kind"] != "transform", 'kind!="transform"'),
    Rule(
        "only rows of kind transform have one",
        lambda rows: (rows["kind"] != "transform") & (rows["transform"] != "identity"),
        "ExpectColumnValuesToBeInSet",
        {"column": "transform", "value_set": ["identity"]},
        'kind!="transform"',
    ),
    Rule(
        "rows of kind transform have one",
        lambda rows: (rows["kind"] == "transform") & (rows["transform"] == "identity"),
        "ExpectColumnValuesToNotBeInSet",
        {"column": "transform", "value_set": ["identity"]},
        'kind=="transform"',
    ),
)
REFERENCE_RULES = (
    Rule(
        "an image has one reference row",
        lambda rows: (rows["kind"] == "reference") & rows.duplicated(["image", "kind"]),
        "ExpectColumnValuesToBeUnique",
        {"column": "image"},
        'kind=="reference"',
    ),
    Rule(
        "a reference row is its own reference",
        lambda rows: (rows["kind"] == "reference") & (rows["row"] != rows["reference"]),
        "ExpectColumnPairValuesToBeEqual",
        {"column_A": "row", "column_B": "reference"},
        'kind=="reference"',
    ),
)

PLAN = Table(
    "plan",
    "The rows of a dataset: which image, perturbed how; shared by all models and methods.",
    (
        ROW,
        TURN,
        *PERTURBATION,
        Column(
            "progress",
            "int64",
            "percent of the training after which the checkpoint was taken; null for other kinds",
            nullable=True,
            minimum=1,
            maximum=99,
        ),
        Column(
            "layers",
            "int64",
            "stages of the network that are randomised, counted from the classes; null for other kinds",
            nullable=True,
            minimum=1,
            maximum=99,
        ),
        REFERENCE,
    ),
    ("row",),
    (
        present_where("progress", lambda rows: rows["kind"] == "checkpoint", 'kind=="checkpoint"'),
        null_where("progress", lambda rows: rows["kind"] != "checkpoint", 'kind!="checkpoint"'),
        present_where("layers", lambda rows: rows["kind"] == "layers", 'kind=="layers"'),
        null_where("layers", lambda rows: rows["kind"] != "layers", 'kind!="layers"'),
        *PERTURBATION_RULES,
        *REFERENCE_RULES,
    ),
)


def prepared_file(dataset: str, table: Table) -> Path:
    """Return where one of the tables of this module lies."""
    return DATA / "prepared" / checked(dataset, "dataset") / f"{table.name}.parquet"
