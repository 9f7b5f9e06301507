"""Our numbers beside the paper's: by hand, and nothing left out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline.core.tables import TABLES, from_lines, write
from pipeline.results.comparison import accuracies, compare, published
from tests.world import World

PROFILE = yaml.safe_load(Path("profiles/paper.yaml").read_text())


def cose_line(cell: tuple[str, str, str], value: float | None, **changes: Any) -> dict[str, Any]:
    line = {column.name: None if column.nullable else 0 for column in TABLES["cose"].columns}
    names = dict(zip(("dataset", "model", "method"), cell, strict=True))
    return line | names | {"protocol": "paper", "similarity": "ssim", "cose": value} | changes


def test_published_tables_have_the_names_of_the_profile() -> None:
    accuracy, cose = published("accuracy"), published("cose")
    assert len(accuracy) == 5 * 13
    assert len(cose) == 5 * 4 * 7
    assert set(accuracy["dataset"]) == set(cose["dataset"]) == set(PROFILE["datasets"])
    assert set(accuracy["model"]) == set(PROFILE["models"]) > set(cose["model"])
    assert set(cose["method"]) == set(PROFILE["saliency"])
    # The mean of the twenty printed lines, which the paper's last line is not.
    means = cose.groupby("method")["cose"].mean()
    assert means[["blur_ig", "grad_cam", "grad_cam_plus_plus", "guided_ig"]].round(2).tolist() == [
        62.87,
        64.41,
        55.05,
        54.33,
    ]
    assert means[["integrated_gradients", "lime", "smooth_grad"]].round(2).tolist() == [61.15, 60.14, 57.62]
    assert accuracy["accuracy"].between(48, 98).all()


def test_cells_by_hand() -> None:
    cells = [
        cose_line(("cub200", "vit_b16", "lime"), 0.6, cose_low=0.55, cose_high=0.65),
        cose_line(("cub200", "vit_b16", "lime"), 0.9, similarity="spearman"),
        cose_line(("cub200", "vit_b16", "lime"), 0.8, protocol="balanced"),
        cose_line(("cub200", "vit_b16", "grad_cam"), None),
        cose_line(("cub200", "ours", "lime"), 0.5),
    ]
    asked: list[tuple[str, str, str]] = []
    table = compare(from_lines("cose", cells), lambda cell: asked.append(cell) or f"no {cell[2]}")
    assert len(table) == 140
    line = table.set_index(["dataset", "model", "method"]).loc[("cub200", "vit_b16", "lime")]
    assert line[["ours", "low", "high", "published", "difference"]].tolist() == [60.0, 55.0, 65.0, 58.31, 1.69]
    assert pd.isna(line["missing"])
    assert len(asked) == 139
    null = table.set_index(["dataset", "model", "method"]).loc[("cub200", "vit_b16", "grad_cam")]
    assert null["missing"] == "no grad_cam"
    assert pd.isna(null["ours"])
    assert pd.isna(null["difference"])


def test_nothing_computed_is_all_missing() -> None:
    table = compare(pd.DataFrame(), lambda cell: "because")
    assert (table["missing"] == "because").all()
    assert table["ours"].isna().all()


def test_accuracies_by_hand() -> None:
    table = accuracies(
        {("cub200", "vit_b16"): {"test_accuracy": 0.8, "test_images": 100},
         ("digits", "mini"): {"test_accuracy": 1.0, "test_images": 10}}, 0.95,
    )  # fmt: skip
    first, second = table.to_dict("records")
    # Wilson's interval of 80 of 100: centre (0.8 + z²/200) / (1 + z²/100), z = 1.96.
    assert (first["accuracy_low"], first["accuracy_high"]) == (71.12, 86.66)
    assert (first["published"], first["difference"]) == (81.0, -1.0)
    assert pd.isna(second["published"])
    assert second["accuracy_high"] == 100
    assert second["accuracy_low"] == pytest.approx(72.25)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("comparison"))


def test_the_command_says_what_is_missing_and_why(world: World) -> None:
    done = world.stage("compare").stdout
    assert "140 cells in the paper's Table 1, 0 of them here" in done
    assert "28 missing: cub200 is not among the datasets of params.yaml (make params PROFILE=paper)" in done
    (world.root / "params.yaml").write_bytes((world.root / "profiles/paper.yaml").read_bytes())
    params = world.params
    del params["models"]["vit_b16"]
    world.set(params)
    (world.root / "data/raw/cub200").mkdir(parents=True)
    (world.root / "data/raw/cub200/splits.parquet").touch()
    (world.root / "metrics/training").mkdir(parents=True)
    for model in ("resnet50", "swin_tiny"):
        (world.root / f"metrics/training/cub200-{model}.json").write_text(json.dumps({}))
    # One image: a transform that keeps the prediction right, and one that changes it.
    line = {"image": 0, "kind": "transform", "transform": "flip_lr", "magnitude": None, "state": "trained", "label": 1,
            "reference_prediction": 1, "valid_pixels": 9, "spearman": None}  # fmt: skip
    scores = from_lines("scores", [line | {"row": 1, "prediction": 1, "ssim": 0.7},
                                   line | {"row": 2, "prediction": 0, "ssim": 0.4}])  # fmt: skip
    write("scores", world.root / "data/scores/cub200/swin_tiny/lime.parquet", scores)
    none = scores.assign(prediction=1)
    write("scores", world.root / "data/scores/cub200/swin_tiny/grad_cam.parquet", none)
    for file in ("predictions/cub200/swin_tiny.parquet", "explanations/cub200/swin_tiny/grad_cam/index.parquet"):
        (world.root / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (world.root / "data" / file).touch()
    world.stage("compare")
    with (world.root / "metrics/comparison.csv").open() as file:
        lines = {(line["dataset"], line["model"], line["method"]): line for line in csv.DictReader(file)}
    assert lines["cub200", "swin_tiny", "lime"] == {
        "dataset": "cub200", "model": "swin_tiny", "method": "lime", "ours": "64.81", "low": "", "high": "",
        "published": "59.06", "difference": "5.75", "missing": "",
    }  # fmt: skip
    assert lines["cub200", "vit_b16", "lime"]["missing"].startswith("vit_b16 is not among the models of params.yaml")
    assert lines["cub200", "resnet50", "lime"]["missing"] == "not predicted yet (dvc repro)"
    assert lines["cub200", "swin_tiny", "grad_cam"]["missing"].startswith(
        "undefined: no prediction is kept right, or none"
    )
    weights = PROFILE["models"]["swin_tiny"]["weights"]
    assert lines["cub200", "convnext_small", "blur_ig"]["missing"] == "not trained yet (dvc repro)"
    assert lines["cub200", "swin_tiny", "blur_ig"]["missing"] == "not explained yet (dvc repro)"
    (world.root / "metrics/training/cub200-swin_tiny.json").unlink()
    world.stage("compare")
    with (world.root / "metrics/comparison.csv").open() as file:
        missing = {(line["model"], line["method"]): line["missing"] for line in csv.DictReader(file)
                   if line["dataset"] == "cub200"}  # fmt: skip
    assert missing["swin_tiny", "blur_ig"] == (
        f"not trained yet (dvc repro); not here: {weights['file']}, downloaded from {weights['url']}"
    )
    assert lines["cifar10", "swin_tiny", "blur_ig"]["missing"].startswith(
        "not prepared yet (dvc repro); not here: data/sources/cifar10/cifar-10-python.tar.gz, downloaded from https://"
    )
