"""Scores of one cell: every map, carried back, against the map of its reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.params import SimilaritySettings
from pipeline.similarity import spearman, ssim
from pipeline.transforms import carry_back


def score_rows(
    plan: pd.DataFrame,
    predictions: pd.DataFrame,
    index: pd.DataFrame,
    maps: npt.NDArray[Any],
    settings: SimilaritySettings,
) -> pd.DataFrame:
    """Compare every map with its reference's.

    Args:
        plan: the table ``plan``.
        predictions: the table ``predictions`` of the same rows.
        index: the table ``index`` of the same rows.
        maps: (rows, H, W), in the plan's order; read one by one.
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
    compared = [
        _compare(maps[references[at]], maps[at], transform, magnitude, settings.window)
        for at, transform, magnitude in tqdm(
            list(zip(rows.index, rows["transform"], magnitudes, strict=True)), desc="score", unit="map", disable=None
        )
    ]
    valid, structural, ranked = zip(*compared, strict=True)
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


def _compare(
    reference: npt.NDArray[Any], other: npt.NDArray[Any], transform: str, magnitude: float, window: int
) -> tuple[int, float | None, float | None]:
    """Return the number of valid pixels, SSIM and Spearman's rank correlation."""
    expected = reference.astype(np.float64)
    carried, valid = carry_back(other.astype(np.float64), transform, magnitude)
    return int(valid.sum()), ssim(expected, carried, valid, window), spearman(expected, carried, valid)
