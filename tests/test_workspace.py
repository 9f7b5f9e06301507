"""The whole chain under DVC, in a small copy of the project: what runs, what does not, and what comes out."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.world import ROOT, World, folder_of_pictures, small_params

pytestmark = pytest.mark.slow


def merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    for key, value in extra.items():
        base[key] = merge(base.get(key, {}), value) if isinstance(value, dict) and key in base else value
    return base


def follow_contributing(world: World, heading: str) -> None:
    """Do what CONTRIBUTING says under a heading: write the files and merge the parameters of its blocks."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", section, re.DOTALL)
    assert blocks
    for _, block in blocks:
        content = textwrap.dedent("   " + block if not block.startswith(" ") else block)
        name = content.splitlines()[0].removeprefix("# ")
        if name == "params.yaml":
            world.set(merge(world.params, yaml.safe_load(content)))
        else:
            (world.root / name).write_text(content.split("\n", 1)[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("workspace"))
    made.set(small_params(made, folder_of_pictures(made.root / "pictures", per_class=12)))
    made.start_dvc()
    return made


CELL = "pictures-resnet_mini"
ALL = [
    "check_params", "prepare@pictures", f"train@{CELL}", f"predict@{CELL}", "validate_predictions@pictures",
    f"explain@{CELL}-grad_cam", f"explain@{CELL}-lime", "validate_explanations@pictures",
    f"score@{CELL}-grad_cam", f"score@{CELL}-lime", "aggregate",
]  # fmt: skip


def test_first_run_makes_everything(world: World) -> None:
    assert sorted(world.repro()) == sorted(ALL)
    headline = json.loads((world.root / "metrics/cose.json").read_text())
    assert set(headline) == {"grad_cam", "lime"}
    assert set(headline["lime"]) == {"pictures/resnet_mini"}
    table = pd.read_csv(world.root / "metrics/cose.csv")
    assert len(table) == 2 * 2 * 2
    assert "NaN" not in (world.root / "metrics/cose.csv").read_text()
    index = pd.read_parquet(world.root / "data/explanations/pictures/resnet_mini/lime/index.parquet")
    maps = np.load(world.root / "data/explanations/pictures/resnet_mini/lime/maps.npy", mmap_mode="r")
    plan = pd.read_parquet(world.root / "data/plan/pictures.parquet")
    assert len(plan) == len(index) == len(maps)
    assert maps.dtype == np.int8
    assert set(index["state"]) == {"trained", "random", "epoch_001", "epoch_005"}
    assert "plot" not in world.run("dvc", "metrics", "show", "metrics/cose.json").stderr


def test_second_run_makes_nothing(world: World) -> None:
    assert world.repro() == []


def test_same_seed_same_results(world: World) -> None:
    names = ["data/plan/pictures.parquet", "data/raw/pictures/splits.parquet", "metrics/cose.json", "metrics/cose.csv"]
    before = {name: (world.root / name).read_bytes() for name in names}
    assert sorted(world.repro("--force", "--no-run-cache")) == sorted(ALL)
    for name in names:
        assert (world.root / name).read_bytes() == before[name], name


def test_a_method_setting_runs_that_method_alone(world: World) -> None:
    world.edit("saliency.lime.samples", 24)
    assert sorted(world.repro()) == sorted(
        ["check_params", f"explain@{CELL}-lime", "validate_explanations@pictures", f"score@{CELL}-lime", "aggregate"]
    )


def test_a_new_method_runs_its_own_cells_alone(world: World) -> None:
    follow_contributing(world, "Add a saliency method")
    new = f"{CELL}-input_times_gradient"
    assert sorted(world.repro()) == sorted(
        ["check_params", f"explain@{new}", "validate_explanations@pictures", f"score@{new}", "aggregate"]
    )


def test_a_new_model_runs_its_own_cells_alone(world: World) -> None:
    follow_contributing(world, "Add a model")
    ran = set(world.repro())
    own = {stage for stage in ran if "convnext_mini" in stage}
    assert ran - own == {"check_params", "validate_predictions@pictures", "validate_explanations@pictures", "aggregate"}
    assert len(own) == 2 + 2 * 3


def test_a_new_dataset_runs_its_own_cells_alone(world: World) -> None:
    follow_contributing(world, "Add a dataset")
    ran = set(world.repro())
    own = {stage for stage in ran if "stripes" in stage}
    assert ran - own == {"check_params", "aggregate"}
    assert len(own) == 1 + 2 * 2 + 2 + 2 * 2 * 3
    table = pd.read_csv(world.root / "metrics/table1.csv")
    assert table["dataset"].tolist() == ["pictures", "pictures", "stripes", "stripes", "average"]


def test_contract_tests_pick_up_what_was_added(world: World) -> None:
    shutil.copytree(ROOT / "tests", world.root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", world.root)
    done = world.run("python", "-m", "pytest", "tests/test_contracts.py", "-v", "-k",
                     "input_times_gradient or convnext_mini or stripes", check=False)  # fmt: skip
    assert "4 passed" in done.stdout, done.stdout[-3000:]


def test_a_broken_table_stops_the_run_before_it_is_read(world: World) -> None:
    path = world.root / "data/predictions/pictures/resnet_mini.parquet"
    good = path.read_bytes()
    frame = pd.read_parquet(path)
    frame["state"] = "epoch"
    path.unlink()
    frame.to_parquet(path, index=False)
    gate = world.root / "data/gates/predictions/pictures"
    before = {file.name: file.read_text() for file in gate.iterdir()}
    done = world.stage("validate", "--gate", "predictions", "--dataset", "pictures", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/predictions/pictures/resnet_mini.parquet: table predictions: expect_")
    assert "'epoch'" in done.stderr
    assert "Traceback" not in done.stderr
    assert {file.name: file.read_text() for file in gate.iterdir()} == before
    path.write_bytes(good)


def test_a_checkpoint_that_does_not_fit_is_one_line(world: World) -> None:
    params = world.params
    world.edit("models.resnet_mini.arguments.channels", [32, 48, 64, 80])
    done = world.stage("predict", "--dataset", "pictures", "--model", "resnet_mini", check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: data/models/pictures/resnet_mini/trained\.safetensors: the checkpoint does not fit the model: \S+ has "
        r"shape \(\d.*\); allowed: \(.*\)\n", done.stderr,
    )  # fmt: skip
    world.set(params)


def test_data_docs(world: World) -> None:
    done = world.stage("data_docs")
    page = world.root / done.stdout.strip()
    assert page.exists()
    assert "unexpected" not in done.stderr
    assert "data-plan-pictures" in page.read_text()
    assert len(list(page.parent.rglob("*data-plan-pictures*.html"))) >= 1


def test_params_of_a_fresh_copy_resolve(tmp_path: Path) -> None:
    fresh = World(tmp_path)
    fresh.start_dvc()
    stages = fresh.run("dvc", "stage", "list", "--name-only").stdout.split()
    assert len(stages) == 1 + 2 + 4 + 4 + 2 + 28 + 2 + 28 + 1
