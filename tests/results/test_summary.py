"""The tables over the grid: what is left out, what is mixed, what is left over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.grid import CellSettings
from pipeline.core.tables import check, write
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings, summarize
from pipeline.metrics.scores import SCORES, scores_file, scores_folder
from pipeline.models.training_metrics import training_curve_file, training_metrics_file
from pipeline.results.headline import headline, paper_table
from pipeline.results.summary import COSE, TRANSFORM_MEANS, absent, leftovers, mixed, summarize_grid

SETTINGS = StatisticsSettings(resamples=100, confidence=0.95)
CELLS = {
    "digits-a": CellSettings(dataset="digits", model="a"),
    "digits-b": CellSettings(dataset="digits", model="b", without={"lime": "too slow"}),
}
CPU = {"device": "cpu", "torch": "2.14.1", "precision": "float32", "batch": 41}
ALIKE: dict[str, Any] = {}


def scores(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    count = 60
    return pd.DataFrame(
        {
            "row": np.arange(count),
            "turn": np.arange(count) % 6,
            "image": np.arange(count) % 6,
            "kind": "transform",
            "transform": rng.choice(["rotate", "blur"], count),
            "magnitude": pd.array([None] * count, dtype="Float64"),
            "state": "trained",
            "label": 1,
            "reference_prediction": 1,
            "prediction": rng.integers(0, 2, count),
            "valid_pixels": 9,
            "ssim": pd.array(rng.uniform(0, 1, count), dtype="Float64"),
            "spearman": pd.array(rng.uniform(0, 1, count), dtype="Float64"),
        }
    )


def leave(cell: str, method: str, seed: int, by: dict[str, Any] | None = ALIKE, left_out: str | None = None) -> None:
    folder = scores_folder(cell, method)
    folder.mkdir(parents=True)
    stages = {} if by is None else {"train": CPU | {"batch": 32}, "predict": CPU, "explain": CPU} | by
    (folder / "about.json").write_text(json.dumps({"left_out": left_out, "values": "unit", "computed_by": stages}))
    if left_out is None:
        write(SCORES, scores_file(folder), scores(seed))


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leave("digits-a", "grad_cam", 0)
    leave("digits-a", "lime", 1)
    leave("digits-b", "grad_cam", 2)
    leave("digits-b", "lime", 3, None, "too slow")


METHODS = ["grad_cam", "lime"]
PLAN = PlanSettings(images=6, magnitudes=1, transforms=("rotate", "blur"), checkpoints=())


def test_every_cell_and_method_has_its_lines(grid: None) -> None:
    tables = summarize_grid(CELLS, METHODS, PLAN, SETTINGS, seed=0)
    table = tables[COSE.name]
    check(COSE, table, "test")
    check(TRANSFORM_MEANS, tables[TRANSFORM_MEANS.name], "test")
    assert len(table) == 2 * 2 * 4
    left = table[table["missing"].notna()]
    assert set(zip(left["cell"], left["method"], strict=True)) == {("digits-b", "lime")}
    assert set(left["missing"]) == {"too slow"}
    assert left["cose"].isna().all()
    assert (left["consistency_rows"] == 0).all()
    expected = summarize(scores(1), 6, SETTINGS, 0, dataset="digits")[0]
    line = table[(table["cell"] == "digits-a") & (table["method"] == "lime")].iloc[0]
    assert line["cose"] == expected["cose"]
    assert ("digits-b", "lime") not in set(
        zip(tables[TRANSFORM_MEANS.name]["cell"], tables[TRANSFORM_MEANS.name]["method"], strict=True)
    )
    shaped = paper_table(table, METHODS)
    assert shaped["cell"].tolist() == ["digits-a", "digits-b", "average"]
    assert pd.isna(shaped["lime"][1])


def test_what_is_not_scored_may_be_left_out(grid: None) -> None:
    table = summarize_grid(CELLS, METHODS, PLAN, SETTINGS, seed=0, scored={("digits-a", "lime")})[COSE.name]
    assert set(table["cell"] + table["method"]) == {"digits-alime"}
    missing = {"digits-c": CellSettings(dataset="digits", model="c")}
    table = summarize_grid(missing, METHODS, PLAN, SETTINGS, seed=0)[COSE.name]
    assert set(table["missing"]) == {"not computed"}
    assert table["cose"].isna().all()
    assert absent(CELLS, METHODS) == []
    assert absent(missing, METHODS) == [
        "note: not computed, and without numbers in the tables: "
        f"{', '.join(f'score@digits-c-{method}' for method in METHODS)}; `dvc repro` makes them"
    ]
    assert mixed(missing, METHODS) == []


@pytest.mark.slow
def test_a_table_that_mixes_devices_or_batches_says_so(grid: None) -> None:
    assert mixed(CELLS, METHODS) == []
    leave("shapes-a", "grad_cam", 4, {"train": None, "predict": CPU | {"batch": 7}, "explain": CPU | {"batch": 7}})
    shapes = CELLS | {"shapes-a": CellSettings(dataset="shapes", model="a")}
    assert mixed(shapes, ["grad_cam"]) == [], "the batch follows from the image size"
    gpu = CPU | {"device": "NVIDIA H100", "batch": 83}
    leave("digits-d", "grad_cam", 4, {"explain": gpu})
    device, batch = mixed(shapes | {"digits-d": CellSettings(dataset="digits", model="d")}, ["grad_cam"])
    said = "note: the table mixes maps that were computed differently: "
    kinds = [
        "cpu, torch 2.14.1, float32: 3 (such as digits-a-grad_cam)",
        "NVIDIA H100, torch 2.14.1, float32: 1 (such as digits-d-grad_cam)",
    ]
    assert device == said + "; ".join(kinds)
    assert batch == "note: maps of digits were computed with different images per evaluation: 41, 83"
    trained = {"train": CPU | {"precision": "bfloat16"}}
    leave("digits-f", "grad_cam", 5, trained)
    cells = CELLS | {"digits-f": CellSettings(dataset="digits", model="f")}
    assert mixed(cells, ["grad_cam"]) == [], "how a network is trained is a setting"
    for method in METHODS:
        leave("digits-e", method, 5, {"train": CPU | {"torch": "2.11.0"}, "predict": gpu})
    networks, predictions, batch = mixed(CELLS | {"digits-e": CellSettings(dataset="digits", model="e")}, METHODS)
    assert networks == (
        "note: the table mixes networks that were computed differently: cpu, torch 2.14.1: 2 (such as "
        "digits-a); cpu, torch 2.11.0: 1 (such as digits-e)"
    )
    assert predictions.endswith(
        "float32: 2 (such as digits-a); NVIDIA H100, torch 2.14.1, float32: 1 (such as digits-e)"
    )
    assert batch == "note: predictions of digits were computed with different images per evaluation: 41, 83"


def test_metrics_of_no_cell_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for cell in ("digits-a", "old"):
        training_metrics_file(cell).parent.mkdir(parents=True, exist_ok=True)
        training_metrics_file(cell).write_text("{}")
        training_curve_file(cell).write_text("")
    assert leftovers(CELLS) == [
        "note: of no cell in params.yaml, and not in the tables: metrics/training/old.csv, metrics/training/old.json"
    ]
    assert leftovers([*CELLS, "old"]) == []


def test_headline_and_paper_table() -> None:
    cells = [
        ("digits-a", "digits", "a", "lime", 0.5),
        ("digits-a", "digits", "a", "ig", None),
        ("shapes-a", "shapes", "a", "lime", 0.25),
        ("shapes-a", "shapes", "a", "ig", 0.75),
    ]
    table = pd.DataFrame(cells, columns=["cell", "dataset", "model", "method", "cose"]).assign(
        protocol="paper", similarity="ssim"
    )
    assert headline(table) == {"lime": {"digits-a": 0.5, "shapes-a": 0.25}, "ig": {"digits-a": None, "shapes-a": 0.75}}
    shaped = paper_table(table, ["ig", "lime"])
    assert shaped.columns.tolist() == ["cell", "dataset", "model", "ig", "lime"]
    assert shaped["cell"].tolist() == ["digits-a", "shapes-a", "average"]
    assert shaped["lime"].tolist() == [50, 25, 37.5]
    assert pd.isna(shaped["ig"][0])
    assert shaped["ig"][2] == 75
