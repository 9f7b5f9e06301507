"""Means over images with their intervals: what the tables of faithfulness and localisation have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.grid import CellSettings
from pipeline.core.tables import Column, at_least, lines_of, null_where
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings, interval, mean_of, resample

Floats = npt.NDArray[np.float64]

CELL = (
    Column("cell", "string", "name of the cell"),
    Column("dataset", "string", "name of the dataset"),
    Column("model", "string", "name of the model"),
)
METHOD = Column("method", "string", "name of the method")
METRIC = Column(
    "metric",
    "string",
    "name of the metric; null where nothing is measured",
    nullable=True,
    pattern="[a-z][a-z0-9_]*",
)
NUMBERS = (
    Column("mean", "float64", "its number over the images; null where no image has a value", nullable=True),
    Column("low", "float64", "lower end of its interval", nullable=True),
    Column("high", "float64", "upper end of its interval", nullable=True),
    Column("images", "int64", "images with a value", minimum=0),
    Column("undefined", "int64", "images that are measured and have none", minimum=0),
)
MISSING = Column("missing", "string", "why nothing is measured; null where something is", nullable=True)
RULES = (at_least("high", "low"), null_where("mean", lambda table: table["images"] == 0, "images==0"))
NOTHING: dict[str, Any] = {"metric": None, "mean": None, "low": None, "high": None, "images": 0, "undefined": 0}
"""What a line says where nothing is measured."""


def named(name: str, cell: CellSettings) -> dict[str, str]:
    """Return the columns `CELL` of a cell."""
    return {"cell": name, "dataset": cell.dataset, "model": cell.model}


@dataclass(frozen=True)
class Resamples:
    """How the images of a dataset are resampled for intervals: as for COSE, so that differences can be paired.

    Attributes:
        weights: float64 (R, images), how often each image counts, in the order in which the images were drawn.
        confidence: of an interval.
        dataset: name of the dataset, for messages.
    """

    weights: Floats
    confidence: float
    dataset: str

    @classmethod
    def of(cls, dataset: str, plan: PlanSettings, settings: StatisticsSettings, seed: int) -> Resamples:
        """Draw those of a dataset."""
        weights = resample(plan.explained(dataset), settings, seed, dataset)
        return cls(weights, settings.confidence, dataset)

    def check(self, turns: pd.Series, what: str) -> None:
        """Refuse rows of a larger plan than that of params.yaml.

        Raises:
            UserError: there is one; ``what`` says of what.
        """
        images = self.weights.shape[1]
        if len(turns) and turns.max() >= images:
            raise UserError(
                f"{what} of {self.dataset}",
                f"found an image with turn {turns.max()}",
                expected=f"less than {images} (plan.images)",
                fix="`dvc repro` makes it again",
            )

    def interval(self, replicates: Floats, images: int) -> dict[str, float | None]:
        """Return the columns ``low`` and ``high`` of a number that so many images carry."""
        low, high = interval(replicates, images, self.confidence)
        return {"low": low, "high": high}


def means(measured: pd.DataFrame, by: Sequence[str], resamples: Resamples) -> list[dict[str, Any]]:
    """Return the mean over images of every group of lines.

    Args:
        measured: a table with the columns ``turn`` and ``value``, and those that tell groups apart.
        by: these.
        resamples: of the images.

    Returns:
        One mapping per group, with the columns ``by`` and `NUMBERS`, in the order in which groups first appear.
    """
    lines = []
    key: Any  # a tuple of values
    for key, rows in measured.groupby(list(by), sort=False, dropna=False):
        values = rows["value"].to_numpy(dtype=np.float64, na_value=np.nan)
        mean = mean_of(values, rows["turn"].to_numpy(), None, resamples.weights)
        group = {name: None if pd.isna(value) else value for name, value in zip(by, key, strict=True)}
        numbers = {"mean": mean.value, "images": mean.images, "undefined": mean.undefined}
        lines.append(group | numbers | resamples.interval(mean.replicates, mean.images))
    return lines


def headline(table: pd.DataFrame, metrics: Sequence[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return some numbers of a table for `dvc metrics diff`: ``{metric: {method: {cell: mean}}}``."""
    nested: dict[str, dict[str, dict[str, float | None]]] = {}
    for line in lines_of(table[table["metric"].isin(metrics) & table["missing"].isna()]):
        value = None if pd.isna(line.mean) else round(float(line.mean), 6)
        nested.setdefault(line.metric, {}).setdefault(line.method, {})[line.cell] = value
    return nested
