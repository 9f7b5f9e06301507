"""A cell: the rows of a dataset's plan under one model, with all that explaining and scoring them needs.

Its folder holds the rows with what the model predicts for each, the pictures as the model sees them, and how the
network is built. The weights stay in the model's own folder (`pipeline.models.trained`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.core.computed_by import ComputedBy
from pipeline.core.documents import read_document
from pipeline.core.files import DATA
from pipeline.core.names import checked_cell
from pipeline.core.params import Settings, Sha256
from pipeline.core.tables import Column, Table, read
from pipeline.data.pictures import Pictures, open_pictures
from pipeline.data.prepared import PERTURBATION, PERTURBATION_RULES, REFERENCE, REFERENCE_RULES, ROW, TURN
from pipeline.models.network import Network
from pipeline.models.state_names import STATE_PATTERN

PICTURES = "pictures.npy"
COMPUTED_BY = "computed_by.json"
"""File with a `CellComputedBy`."""
STATE = Column("state", "string", "`trained`, `random`, `epoch_NNN` or `top_N`", pattern=STATE_PATTERN)
LABEL = Column("label", "int64", "true class of the image", minimum=0)

ROWS = Table(
    "rows",
    "The rows of a cell, with what the model in the state of each row predicts for its input; all rows of the plan "
    "except those whose state the model does not have.",
    (
        ROW,
        TURN,
        *PERTURBATION,
        REFERENCE,
        STATE,
        LABEL,
        Column("prediction", "int64", "predicted class", minimum=0),
        Column("probability", "float64", "softmax score of the predicted class", minimum=0, maximum=1),
    ),
    ("row",),
    (*PERTURBATION_RULES, *REFERENCE_RULES),
)


def cell_folder(cell: str) -> Path:
    """Return the folder of a cell."""
    return DATA / "cells" / checked_cell(cell)


def rows_file(folder: Path) -> Path:
    """Return the table `ROWS` in a cell's folder."""
    return folder / f"{ROWS.name}.parquet"


class CellComputedBy(Settings):
    """What computed a cell, and of what.

    Attributes:
        train: what trained the model; None for weights of the user's.
        predict: what made the predictions.
        pictures: SHA-256 of the file of pictures.
    """

    train: ComputedBy | None
    predict: ComputedBy
    pictures: Sha256


@dataclass(frozen=True)
class Cell:
    """What a cell's folder holds.

    Attributes:
        rows: the table `ROWS`.
        pictures: by the number of their image.
        network: how the network is built.
        computed_by: what computed the predictions and the model's weights.
    """

    rows: pd.DataFrame
    pictures: Pictures
    network: Network
    computed_by: CellComputedBy


def read_rows(folder: Path) -> tuple[pd.DataFrame, Network]:
    """Return the table `ROWS` and the network of a cell; what is missing or does not fit is a `UserError`."""
    return read(ROWS, rows_file(folder)), Network.read(folder)


def read_cell(folder: Path) -> Cell:
    """Read a cell; what is missing or does not fit is a `UserError`."""
    rows, network = read_rows(folder)
    computed_by = read_document(folder / COMPUTED_BY, CellComputedBy)
    pictures = open_pictures(folder / PICTURES, rows["image"], network.image_size, computed_by.pictures)
    return Cell(rows, pictures, network, computed_by)


def first_images(rows: pd.DataFrame, images: int | str) -> pd.DataFrame:
    """Return the rows of the images that were drawn first, in order; ``all`` stands for all of them."""
    return rows if images == "all" else rows[rows["turn"] < images].reset_index(drop=True)
