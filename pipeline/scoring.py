"""Scores of one cell: every map, carried back, against the map of its reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.maps import enlarge
from pipeline.params import SimilaritySettings
from pipeline.similarity import Reference, spearman, ssim
from pipeline.transforms import carry_back

Scores = tuple[int, float | None, float | None]
"""Valid pixels, SSIM, Spearman's rank correlation."""


def explained(table: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that there are maps of: a method may explain fewer images than the plan has."""
    return table[table["row"].isin(index["row"])].reset_index(drop=True)


def score_rows(
    plan: pd.DataFrame,
    predictions: pd.DataFrame,
    index: pd.DataFrame,
    maps: Sequence[npt.NDArray[Any]],
    side: int,
    settings: SimilaritySettings,
) -> pd.DataFrame:
    """Compare every map with its reference's.

    Args:
        plan: the table ``plan``.
        predictions: the table ``predictions`` of the same rows.
        index: the table ``index`` of the same rows.
        maps: of all rows, in the plan's order; read one by one.
        side: of the images, in pixels; smaller maps are enlarged to it.
        settings: the window of SSIM.

    Returns:
        The table ``scores`` (see `pipeline.tables`), without the reference rows, which would be compared with
        themselves.

    Raises:
        UserError: the tables do not have the same rows, or a map explains another class than was predicted.
    """
    for name, table in (("predictions", predictions), ("index", index)):
        if not np.array_equal(plan["row"], table["row"]):
            raise UserError(f"table {name}: found {len(table)} rows that are not the plan's {len(plan)}; "
                            "`dvc repro` makes them again")  # fmt: skip
    other_class = (index["target"] != predictions["prediction"]) | (index["state"] != predictions["state"])
    if other_class.any():
        raise UserError(f"table index, row {plan['row'][other_class.idxmax()]}: the map explains another class or "
                        "state than the predictions say; `dvc repro` makes it again")  # fmt: skip
    position = pd.Series(np.arange(len(plan)), index=plan["row"])
    references = position.loc[plan["reference"]].to_numpy()
    rows = plan[plan["kind"] != "reference"]
    magnitudes = rows["magnitude"].to_numpy(dtype=np.float64, na_value=np.nan)
    transforms = rows["transform"].to_numpy()
    scores: list[Scores] = [(0, None, None)] * len(rows)
    # One reference after the other, each prepared once. Threads would gain nothing: the steps are too short.
    with tqdm(total=len(rows), desc="score", unit="map", disable=None) as progress:
        for reference_at, places in rows.groupby(references[rows.index]).indices.items():
            reference = Reference(_at_size(maps[reference_at], side), settings.window)
            for place in places.tolist():
                other = _at_size(maps[rows.index[place]], side)
                scores[place] = _compare(reference, other, transforms[place], magnitudes[place])
            progress.update(len(places))
    valid, structural, ranked = zip(*scores, strict=True)
    prediction = predictions["prediction"].to_numpy()
    return pd.DataFrame(
        {
            **{name: rows[name].to_numpy() for name in ("row", "image", "kind", "transform")},
            "magnitude": rows["magnitude"].array,
            "state": predictions["state"].to_numpy()[rows.index],
            "label": predictions["label"].to_numpy()[rows.index],
            "reference_prediction": prediction[references[rows.index]],
            "prediction": prediction[rows.index],
            "valid_pixels": valid,
            "ssim": pd.array(structural, dtype="Float64"),
            "spearman": pd.array(ranked, dtype="Float64"),
        }
    )


def _at_size(stored: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Return a map at the size of its image, in its stored type where it is stored at that size."""
    return stored if stored.shape == (side, side) else enlarge(stored, side)


def _compare(reference: Reference, other: npt.NDArray[Any], transform: str, magnitude: float) -> Scores:
    carried, valid = carry_back(other, transform, magnitude)
    pixels = carried.size if valid is None else int(valid.sum())
    return pixels, ssim(reference, carried, valid), spearman(reference, carried, valid)
