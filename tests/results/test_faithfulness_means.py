"""Means of faithfulness over images: by hand, with what is undefined and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import UserError
from pipeline.core.grid import CellSettings
from pipeline.core.tables import check, write
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings, resample
from pipeline.metrics.faithfulness.tables import FAITHFULNESS, faithfulness_file, faithfulness_folder
from pipeline.results.faithfulness_means import FAITHFULNESS_MEANS, summarize, summarize_faithfulness
from pipeline.results.means import Resamples, headline

SETTINGS = StatisticsSettings(resamples=400, confidence=0.9)
VALUES = [0.1, None, 0.4, 0.7]
RESAMPLES = Resamples(resample(4, SETTINGS, 0, "photos"), 0.9, "photos")


def measured() -> pd.DataFrame:
    def line(turn: int, metric: str, at: float | None, value: float | None) -> dict[str, Any]:
        return {
            "row": turn,
            "turn": turn,
            "metric": metric,
            "at": at,
            "value": value,
            "reason": "flat" if value is None else None,
        }

    return FAITHFULNESS.from_lines(
        [
            *(line(turn, "road_combined", None, value) for turn, value in enumerate(VALUES)),
            *(line(turn, "road_combined", 20, 0.5) for turn in range(4)),
            *(line(turn, "deletion", None, None) for turn in range(4)),
        ]
    )


def test_means_are_over_images_with_a_value() -> None:
    road, at_20, deletion = summarize(measured(), RESAMPLES)
    assert (road["metric"], road["at"], road["images"], road["undefined"]) == ("road_combined", None, 3, 1)
    assert road["mean"] == pytest.approx(0.4)
    assert (at_20["at"], at_20["mean"], at_20["low"], at_20["high"]) == (20, 0.5, 0.5, 0.5)
    assert (deletion["mean"], deletion["low"], deletion["images"], deletion["undefined"]) == (None, None, 0, 4)


def test_intervals_are_those_of_means_of_resampled_images() -> None:
    drawn = resample(4, SETTINGS, 0, "photos").astype(int)
    means = []
    for counts in drawn:
        values = [value for value, count in zip(VALUES, counts, strict=True) for _ in range(count) if value is not None]
        means += [np.mean(values)] if values else []
    road = summarize(measured(), RESAMPLES)[0]
    assert (road["low"], road["high"]) == pytest.approx(np.quantile(means, [0.05, 0.95]).tolist())


def test_rows_of_a_larger_plan_are_refused() -> None:
    with pytest.raises(UserError, match=r"^faithfulness of photos: found an image with turn 3; allowed: less than 3 "):
        summarize(measured(), Resamples(RESAMPLES.weights[:, :3], 0.9, "photos"))


def test_the_grid_says_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for method, reason in (("grad_cam", None), ("lime", "too slow")):
        folder = faithfulness_folder("photos-a", method)
        folder.mkdir(parents=True)
        (folder / "about.json").write_text(json.dumps({"left_out": reason, "values": "unit", "computed_by": {}}))
        if reason is None:
            write(FAITHFULNESS, faithfulness_file(folder), measured())
    cells = {"photos-a": CellSettings(dataset="photos", model="a")}
    plan = PlanSettings(images=4, magnitudes=1, transforms=(), checkpoints=())
    found = summarize_faithfulness(cells, ["grad_cam", "lime"], plan, SETTINGS, seed=0)
    check(FAITHFULNESS_MEANS, found, "here")
    assert found["method"].tolist() == ["grad_cam"] * 3 + ["lime"]
    assert found["missing"].tolist()[3] == "too slow"
    assert headline(found[found["at"].isna()], ["road_combined", "deletion"]) == {
        "road_combined": {"grad_cam": {"photos-a": 0.4}},
        "deletion": {"grad_cam": {"photos-a": None}},
    }
