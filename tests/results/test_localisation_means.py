"""Localisation and the box study over images: by hand, with what is undefined and what is not measured."""

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
from pipeline.metrics.localisation.tables import (
    BOX_STUDY,
    LOCALISATION,
    OUTSIDE,
    localisation_folder,
    objects_folder,
    table_file,
)
from pipeline.results.localisation_means import (
    BOX_STUDY_MEANS,
    LOCALISATION_MEANS,
    summarize,
    summarize_localisation,
    summarize_study,
)
from pipeline.results.means import Resamples, headline

SETTINGS = StatisticsSettings(resamples=400, confidence=0.9)
RESAMPLES = Resamples(resample(4, SETTINGS, 0, "birds"), 0.9, "birds")
HITS = [1.0, None, 0.0, 1.0]
OVERLAPS = {0.0: [0.6, 0.2, 0.7], 0.5: [0.4, 0.9, 0.7]}


def measured() -> pd.DataFrame:
    def line(turn: int, metric: str, at: float | None, value: float | None) -> dict[str, Any]:
        return {
            "row": 10 + turn,
            "turn": turn,
            "metric": metric,
            "at": at,
            "value": value,
            "reason": OUTSIDE if value is None else None,
        }

    return LOCALISATION.from_lines(
        [
            *(line(turn, "standard_pointing_game", None, value) for turn, value in enumerate(HITS)),
            *(
                line(turn, "box_accuracy", at, value)
                for at, of_images in OVERLAPS.items()
                for turn, value in zip((0, 2, 3), of_images, strict=True)
            ),
            line(1, "box_accuracy", None, None),
            *(line(turn, "pixel_f1", None, None) for turn in range(4)),
        ]
    )


def studied(parts: tuple[str, ...]) -> pd.DataFrame:
    return BOX_STUDY.from_lines(
        [
            {"row": turn, "turn": turn, "part": part, "metric": "average_drop", "value": value, "reason": None}
            for place, part in enumerate(parts)
            for turn, value in enumerate((10.0 * place, 30.0))
        ]
    )


def test_means_are_over_images_with_a_value() -> None:
    metrics = ["standard_pointing_game", "pixel_f1", "mass_accuracy", "energy_pointing_game"]
    pointing, f1, mass, energy = summarize(measured(), metrics, RESAMPLES)
    assert (pointing["mean"], pointing["images"], pointing["undefined"]) == (pytest.approx(2 / 3), 3, 1)
    assert (f1["mean"], f1["low"], f1["images"], f1["undefined"], f1["missing"]) == (None, None, 0, 4, None)
    assert (mass["mean"], mass["images"], mass["missing"]) == (None, 0, "no image has a mask")
    assert energy["missing"] == "no image has a box"


def test_box_accuracy_takes_the_best_threshold_of_every_resample() -> None:
    (found,) = summarize(measured(), ["box_accuracy"], RESAMPLES)
    assert (found["mean"], found["images"], found["undefined"]) == (pytest.approx(2 / 3), 3, 1)
    accuracies = []
    for counts in RESAMPLES.weights[:, [0, 2, 3]]:
        at_each = [(counts * (np.array(one) >= 0.5)).sum() / counts.sum() for one in OVERLAPS.values() if counts.sum()]
        accuracies += [max(at_each)] if at_each else []
    assert (found["low"], found["high"]) == pytest.approx(np.quantile(accuracies, [0.05, 0.95]).tolist())


def test_the_study_has_a_mean_for_every_part() -> None:
    inside, outside = summarize_study(studied(("map_inside_box", "map_outside_box")), RESAMPLES)
    assert (inside["part"], inside["mean"], inside["images"]) == ("map_inside_box", 15, 2)
    assert (outside["part"], outside["mean"], outside["metric"]) == ("map_outside_box", 20, "average_drop")


def test_rows_of_a_larger_plan_are_refused() -> None:
    smaller = Resamples(RESAMPLES.weights[:, :2], 0.9, "birds")
    with pytest.raises(UserError, match=r"^localisation of birds: found an image with turn 3; allowed: less than 2 "):
        summarize(measured(), [], smaller)


def test_the_grid_says_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    boxes = objects_folder("birds-a")
    boxes.mkdir(parents=True)
    write(BOX_STUDY, table_file(boxes, BOX_STUDY), studied(("box", "outside_box")))
    for method, reason in (("grad_cam", None), ("lime", "too slow")):
        folder = localisation_folder("birds-a", method)
        folder.mkdir(parents=True)
        (folder / "about.json").write_text(json.dumps({"left_out": reason, "values": "unit", "computed_by": {}}))
        if reason is None:
            write(LOCALISATION, table_file(folder, LOCALISATION), measured())
            write(BOX_STUDY, table_file(folder, BOX_STUDY), studied(("map", "map_inside_box")))
    cells = {"birds-a": CellSettings(dataset="birds", model="a")}
    plan = PlanSettings(images=4, magnitudes=1, transforms=(), checkpoints=())
    metrics = ["standard_pointing_game", "box_accuracy", "mass_accuracy"]
    means, study = summarize_localisation(cells, ["grad_cam", "lime"], metrics, plan, settings=SETTINGS, seed=0)
    check(LOCALISATION_MEANS, means, "here")
    check(BOX_STUDY_MEANS, study, "here")
    assert means["method"].tolist() == ["grad_cam"] * 3 + ["lime"]
    assert means["missing"].tolist()[2:] == ["no image has a mask", "too slow"]
    assert study[["method", "part"]].to_numpy().tolist() == [
        ["box", "map"],
        ["outside_box", "map"],
        ["grad_cam", "map"],
        ["grad_cam", "map_inside_box"],
    ]
    assert headline(means, metrics) == {
        "standard_pointing_game": {"grad_cam": {"birds-a": 0.666667}},
        "box_accuracy": {"grad_cam": {"birds-a": 0.666667}},
    }
