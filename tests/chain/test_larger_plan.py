"""A larger plan leaves every row that was there before as it was: its name, its prediction and its maps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.data.plan import draw_plan
from pipeline.data.transforms import TRANSFORMS
from pipeline.saliency.method import METHODS
from tests.chain.conftest import PLAN, explained, predicted, states_in
from tests.conftest import SIDE

LARGER = {
    "more images": {"images": 11},
    "more magnitudes": {"magnitudes": 3},
    "more transforms": {"transforms": tuple(TRANSFORMS)},
    "another checkpoint": {"checkpoints": (10, 30, 60)},
}
SMALLER = PLAN.model_copy(update={"transforms": tuple(TRANSFORMS)[:9]})


@pytest.mark.parametrize("change", LARGER)
def test_a_larger_plan_leaves_the_rows_that_were_there(change: str, splits: pd.DataFrame) -> None:
    small = draw_plan(splits, SMALLER, SIDE, 0, dataset="chain").set_index("row")
    large = draw_plan(splits, SMALLER.model_copy(update=LARGER[change]), SIDE, 0, dataset="chain").set_index("row")
    assert len(large) > len(small)
    pd.testing.assert_frame_equal(large.loc[small.index], small)


@pytest.mark.parametrize("name", METHODS)
def test_a_larger_plan_leaves_predictions_and_maps_to_the_last_bit(  # type: ignore[no-untyped-def]
    name, splits, weights, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("COSE_BATCH", "16")
    rng = np.random.default_rng(2)
    pictures = {int(image): rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for image in splits["image"]}
    tables, maps = [], []
    for number, update in enumerate(
        ({}, *(LARGER[name] for name in ("more images", "more magnitudes", "more transforms")))
    ):
        plan = draw_plan(splits, SMALLER.model_copy(update=update), SIDE, 0, dataset="chain")
        rows = predicted(plan, splits, pictures, weights)
        maps.append(explained(name, states_in(weights), rows, pictures, tmp_path / f"{number}.npy"))
        tables.append(rows)
    for rows, larger in zip(tables[1:], maps[1:], strict=True):
        place = pd.Series(np.arange(len(rows)), index=rows["row"]).loc[tables[0]["row"]].to_numpy()
        pd.testing.assert_frame_equal(rows.iloc[place].reset_index(drop=True), tables[0])
        np.testing.assert_array_equal(larger[place], maps[0])
