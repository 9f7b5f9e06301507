"""What training leaves for people: accuracies and a curve of losses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.core.documents import read_document
from pipeline.core.files import METRICS
from pipeline.core.names import checked_cell
from pipeline.core.params import Count, Settings

FOLDER = METRICS / "training"
Part = Annotated[float, Field(ge=0, le=1)]


class TrainingMetrics(Settings):
    """Accuracies of a model, in [0, 1], and the number of test images behind the second.

    A model that is not trained here may have no validation images.
    """

    validation_accuracy: Part | None = None
    test_accuracy: Part
    test_images: Count


def training_metrics_file(cell: str) -> Path:
    """Return the file of the accuracies of a cell's model."""
    return FOLDER / f"{checked_cell(cell)}.json"


def training_curve_file(cell: str) -> Path:
    """Return the table of the losses of a cell's model, one row per epoch."""
    return FOLDER / f"{checked_cell(cell)}.csv"


def read_training_metrics(cell: str) -> TrainingMetrics:
    """Return the accuracies of a cell's model; a file that is missing or does not fit is a `UserError`."""
    return read_document(training_metrics_file(cell), TrainingMetrics)
