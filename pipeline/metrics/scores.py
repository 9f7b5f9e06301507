"""What the score stage leaves of a cell: the similarity of every map to that of its reference."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.files import DATA, GRID
from pipeline.core.names import checked, checked_cell
from pipeline.core.tables import Column, Table
from pipeline.data.prepared import PERTURBATION, PERTURBATION_RULES, ROW, TURN
from pipeline.models.cell import LABEL, STATE

SIMILARITIES = ("ssim", "spearman")
SIMILARITY = GRID / "score.json"
"""File with the section ``similarity`` of params.yaml; check_params writes it."""

SCORES = Table(
    "scores",
    "Similarity of every map to the map of the same image, unperturbed, under the trained model.",
    (
        ROW,
        TURN,
        *PERTURBATION,
        STATE,
        LABEL,
        Column("reference_prediction", "int64", "class predicted for the unperturbed image", minimum=0),
        Column("prediction", "int64", "class predicted in this row", minimum=0),
        Column("valid_pixels", "int64", "pixels that were compared", minimum=0),
        Column(
            "ssim",
            "float64",
            "structural similarity; null where a map is flat or too little of it is left in the frame",
            nullable=True,
            minimum=-1,
            maximum=1,
        ),
        Column(
            "spearman", "float64", "rank correlation; null where a map is flat", nullable=True, minimum=-1, maximum=1
        ),
    ),
    ("row",),
    PERTURBATION_RULES,
)


def scores_folder(cell: str, method: str) -> Path:
    """Return the folder of the scores of a method on a cell."""
    return DATA / "scores" / checked_cell(cell) / checked(method, "method")


def scores_file(folder: Path) -> Path:
    """Return the table `SCORES` in a folder of scores."""
    return folder / f"{SCORES.name}.parquet"
