"""Scores of one cell: every map, carried back, against the map of its reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED
from pipeline.core.tables import read
from pipeline.data.geometry import Validity, carry_back
from pipeline.metrics.similarity import Reference, SimilaritySettings, spearman, ssim
from pipeline.saliency.explanations import INDEX, MAPS, index_file
from pipeline.saliency.map_file import Maps, Values, enlarge

Scores = tuple[int, float | None, float | None]
"""Valid pixels, SSIM, Spearman's rank correlation."""


def read_maps(folder: Path, rows: pd.DataFrame, values: Values, side: int) -> tuple[pd.DataFrame, Maps]:
    """Open a method's maps of a cell.

    Args:
        folder: of the maps and their index.
        rows: the table ``rows`` of the cell.
        values: what kind of values the maps have.
        side: of the images, in pixels.

    Returns:
        The rows that there are maps of, see `explained`, and the maps in the same order.

    Raises:
        UserError: something is missing, damaged, or of other rows than the cell's.
    """
    index = read(INDEX, index_file(folder))
    return explained(rows, index, index_file(folder)), Maps(folder / MAPS, index, values, side)


def explained(rows: pd.DataFrame, index: pd.DataFrame, source: Path) -> pd.DataFrame:
    """Return the rows of a cell that there are maps of: a method may explain fewer images than the plan has.

    Args:
        rows: the table ``rows`` of the cell.
        index: the table ``index`` of a method's maps.
        source: its file, for messages.

    Raises:
        UserError: they are not all rows of the images drawn first, or a map explains another class or state than the
            row says.
    """
    turns = rows["turn"][rows["row"].isin(index["row"])]
    chosen = rows[rows["turn"] <= turns.max()].reset_index(drop=True)
    if not np.array_equal(chosen["row"], index["row"]):
        raise UserError(
            source,
            f"found {len(index)} rows that are not the cell's {len(chosen)} of the images first drawn",
            fix=DAMAGED,
        )
    other = (index["target"] != chosen["prediction"]) | (index["state"] != chosen["state"])
    if other.any():
        raise UserError(
            f"{source}, row {index['row'][other.idxmax()]}",
            "the map explains another class or state than was predicted",
            fix=DAMAGED,
        )
    return chosen


def score_rows(
    rows: pd.DataFrame,
    maps: Sequence[npt.NDArray[Any]],
    values: Values,
    side: int,
    *,
    settings: SimilaritySettings,
) -> pd.DataFrame:
    """Compare every map with its reference's.

    Args:
        rows: those of the table ``rows`` that there are maps of; see `explained`.
        maps: one per row, in the same order; read one by one.
        values: what kind of values they have.
        side: of the images, in pixels; smaller maps are enlarged to it.
        settings: how two maps are compared.

    Returns:
        The table ``scores`` (`pipeline.metrics.scores.SCORES`), without the reference rows, which would be compared
        with themselves.
    """
    position = pd.Series(np.arange(len(rows)), index=rows["row"])
    references = position.loc[rows["reference"]].to_numpy()
    compared = rows[rows["kind"] != "reference"]
    magnitudes = compared["magnitude"].to_numpy(dtype=np.float64, na_value=np.nan)
    transforms = compared["transform"].to_numpy()
    groups: dict[Any, Any] = compared.groupby(references[compared.index]).indices
    scores: list[Scores] = [(0, None, None)] * len(compared)
    # One reference after the other, each prepared once. Threads would gain nothing: the steps are too short.
    with tqdm(total=len(compared), desc="score", unit="map", disable=None) as progress:
        for reference_at, places in groups.items():
            reference = Reference(_at_size(maps[reference_at], side, values), settings.window)
            for place in places.tolist():
                other = _at_size(maps[compared.index[place]], side, values)
                scores[place] = _compare(
                    reference, other, transforms[place], magnitudes[place], validity=settings.validity
                )
            progress.update(len(places))
    valid, structural, ranked = zip(*scores, strict=True)
    prediction = rows["prediction"].to_numpy()
    return pd.DataFrame(
        {
            **{name: compared[name].to_numpy() for name in ("row", "turn", "image", "kind", "transform")},
            "magnitude": compared["magnitude"].array,
            "state": compared["state"].to_numpy(),
            "label": compared["label"].to_numpy(),
            "reference_prediction": prediction[references[compared.index]],
            "prediction": prediction[compared.index],
            "valid_pixels": valid,
            "ssim": pd.array(structural, dtype="Float64"),
            "spearman": pd.array(ranked, dtype="Float64"),
        }
    )


def _at_size(stored: npt.NDArray[Any], side: int, values: Values) -> npt.NDArray[Any]:
    """Return a map at the size of its image, in its stored type where it is stored at that size."""
    return stored if stored.shape == (side, side) else enlarge(stored, side, values)


def _compare(
    reference: Reference, other: npt.NDArray[Any], transform: str, magnitude: float, *, validity: Validity
) -> Scores:
    carried, valid = carry_back(other, transform, magnitude, validity)
    pixels = carried.size if valid is None else int(valid.sum())
    return pixels, ssim(reference, carried, valid, validity), spearman(reference, carried, valid)
