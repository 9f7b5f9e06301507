"""The whole chain under DVC, in a small copy of the project: what runs, what does not, and what comes out."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.core.files import DAMAGED
from pipeline.models.cell import ROWS
from tests.world import ROOT, World, folder_of_pictures, small_params

pytestmark = pytest.mark.slow


def merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    for key, value in extra.items():
        base[key] = merge(base.get(key, {}), value) if isinstance(value, dict) and key in base else value
    return base


def section_of_contributing(heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.split(r"\n###? ", re.split(rf"\n###? {heading}\n", text)[1])[0]


def follow_contributing(world: World, heading: str) -> None:
    """Do what CONTRIBUTING says under a heading: write the files and merge the parameters of its blocks."""
    section = section_of_contributing(heading)
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", section, re.DOTALL)
    assert blocks
    for _, block in blocks:
        content = textwrap.dedent(block)
        name = content.splitlines()[0].removeprefix("# ")
        if name == "params.yaml":
            world.set(merge(world.params, yaml.safe_load(content)))
        else:
            (world.root / name).write_text(content.split("\n", 1)[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("workspace"), warm=True)
    made.set(small_params(made, folder_of_pictures(made.root / "pictures", per_class=12)))
    made.start_dvc()
    return made


CELL = "pictures-resnet_mini"
ALL = [
    "fingerprint",
    "check_params",
    "prepare@pictures",
    f"train@{CELL}",
    f"predict@{CELL}",
    f"explain@{CELL}-grad_cam",
    f"explain@{CELL}-lime",
    f"score@{CELL}-grad_cam",
    f"score@{CELL}-lime",
    f"faithfulness_limits@{CELL}",
    f"faithfulness@{CELL}-grad_cam",
    f"faithfulness@{CELL}-lime",
    f"gallery@{CELL}",
    f"objects@{CELL}",
    f"localisation@{CELL}-grad_cam",
    f"localisation@{CELL}-lime",
    "aggregate",
]

LIME = [
    "check_params",
    f"explain@{CELL}-lime",
    f"score@{CELL}-lime",
    f"faithfulness@{CELL}-lime",
    f"gallery@{CELL}",
    f"localisation@{CELL}-lime",
    "aggregate",
]
"""What another setting of LIME runs."""


def test_first_run_makes_everything(world: World) -> None:
    assert sorted(world.repro()) == sorted(ALL)
    headline = json.loads((world.root / "metrics/cose.json").read_text())
    assert set(headline) == {"grad_cam", "lime"}
    assert set(headline["lime"]) == {CELL}
    table = pd.read_csv(world.root / "metrics/cose.csv")
    assert len(table) == 2 * 2 * 2
    assert "NaN" not in (world.root / "metrics/cose.csv").read_text()
    folder = world.root / f"data/explanations/{CELL}/lime"
    index = pd.read_parquet(folder / "index.parquet")
    maps = np.load(folder / "maps.npy", mmap_mode="r")
    rows = pd.read_parquet(world.root / f"data/cells/{CELL}/rows.parquet")
    assert index["row"].tolist() == rows["row"].tolist()
    assert len(index) == len(maps)
    assert maps.dtype == np.int8
    assert set(index["state"]) == {"trained", "random", "epoch_001", "epoch_005"}
    about = json.loads((folder / "about.json").read_text())
    assert about["values"] == "ternary"
    assert list(about["computed_by"]) == ["train", "predict", "explain"]
    for by in about["computed_by"].values():
        assert set(by) == {"device", "torch", "precision", "batch"}
    drawn = world.root / f"metrics/gallery/{CELL}"
    assert sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.png")) == [
        "methods_1.png",
        "perturbed/grad_cam.png",
        "perturbed/lime.png",
    ]
    assert "plot" not in world.run("dvc", "metrics", "show", "metrics/cose.json").stderr


def test_second_run_makes_nothing(world: World) -> None:
    assert world.repro() == []


def test_same_seed_same_results(world: World) -> None:
    names = [
        *(f"data/prepared/pictures/{table}.parquet" for table in ("plan", "splits")),
        f"data/models/{CELL}/trained.safetensors",
        f"metrics/training/{CELL}.csv",
        f"data/explanations/{CELL}/lime/maps.npy",
        "metrics/cose.json",
        "metrics/cose.csv",
    ]
    before = {name: (world.root / name).read_bytes() for name in names}
    again = ["prepare@pictures", f"train@{CELL}", f"explain@{CELL}-lime", "aggregate"]
    assert world.repro("--force", "--no-run-cache", "--single-item", *again) == again
    for name in names:
        assert (world.root / name).read_bytes() == before[name], name


def test_a_method_setting_runs_that_method_alone(world: World) -> None:
    world.edit("saliency.lime.samples", 24)
    assert sorted(world.repro()) == sorted(LIME)


def test_a_method_may_be_left_out_with_a_reason(world: World) -> None:
    params = world.params
    world.edit(f"cells.{CELL}.without", {"lime": "too slow here"})
    assert sorted(world.repro()) == sorted(LIME)
    table = pd.read_csv(world.root / "metrics/cose.csv")
    assert (table["missing"] == "too slow here").tolist() == (table["method"] == "lime").tolist()
    assert table["cose"][table["method"] == "lime"].isna().all()
    assert not (world.root / f"data/explanations/{CELL}/lime/maps.npy").exists()
    world.set(params)


def test_a_new_method_runs_its_own_cells_alone(world: World) -> None:
    follow_contributing(world, "Add a saliency method")
    new = f"{CELL}-input_times_gradient"
    ran = world.repro()  # with what was left out before, which DVC's run cache brings back
    assert sorted(ran) == sorted(
        [
            "fingerprint",
            "check_params",
            f"explain@{new}",
            f"score@{new}",
            f"faithfulness@{new}",
            f"localisation@{new}",
            f"gallery@{CELL}",
            "aggregate",
        ]
    )
    assert (world.root / f"data/explanations/{CELL}/lime/maps.npy").exists()


def test_a_function_for_one_image_is_tried_on_one_cell(world: World) -> None:
    before = world.params
    follow_contributing(world, "Wrap a function that takes one image")
    commands = re.findall(r"python -m (stages\.\S+)(.*?) +#", section_of_contributing("Add a saliency method"))
    assert [name for name, _ in commands] == ["stages.check_params", "stages.explain"]
    for name, arguments in commands:
        given = arguments.replace("digits-resnet_mini", CELL).replace("input_times_gradient", "occlusion")
        world.run(sys.executable, "-m", name, *given.split())
    maps = np.load(world.root / f"data/explanations/{CELL}/occlusion/maps.npy")
    assert maps.shape[1:] == (7, 7)
    shutil.rmtree(world.root / f"data/explanations/{CELL}/occlusion")
    (world.root / "pipeline/saliency/methods/occlusion.py").unlink()
    world.set(before)


def test_a_new_model_runs_its_own_cells_alone(world: World) -> None:
    follow_contributing(world, "Add a model")
    ran = set(world.repro())
    own = {stage for stage in ran if "convnext_mini" in stage}
    assert ran - own == {"check_params", "aggregate"}
    assert len(own) == 5 + 4 * 3


def test_a_new_dataset_runs_its_own_cells_alone(world: World) -> None:
    follow_contributing(world, "Add a dataset")
    ran = set(world.repro())
    own = {stage for stage in ran if "stripes" in stage}
    assert ran - own == {"fingerprint", "check_params", "aggregate"}
    assert len(own) == 1 + 5 + 4 * 3
    table = pd.read_csv(world.root / "metrics/table1.csv")
    assert table["cell"].tolist() == [CELL, "pictures-convnext_mini", "stripes-resnet_mini", "average"]


def test_contract_tests_pick_up_what_was_added(world: World) -> None:
    shutil.copytree(ROOT / "tests", world.root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", world.root)
    before = world.params
    follow_contributing(world, "Wrap a function that takes one image")
    done = world.run(
        "python",
        "-m",
        "pytest",
        "tests/contracts",
        "-v",
        "-n",
        "0",
        "-k",
        "input_times_gradient or occlusion or convnext_mini or stripes",
        check=False,
    )
    (world.root / "pipeline/saliency/methods/occlusion.py").unlink()
    world.set(before)
    assert done.returncode == 0, done.stdout[-3000:]
    for name in ("input_times_gradient", "occlusion", "convnext_mini", "stripes"):
        assert f"[{name}]" in done.stdout


def test_a_table_damaged_by_hand_stops_the_next_stage(world: World) -> None:
    path = world.root / f"data/cells/{CELL}/rows.parquet"
    good = path.read_bytes()
    for damage, message in (
        ({"state": "epoch"}, r"table rows, column state: found 'epoch'; allowed: text that matches .*"),
        ({"magnitude": 3.0}, r"table rows, row 0 \(row \d+\): breaks the rule that magnitude is null where .*"),
    ):
        frame = pd.read_parquet(path).assign(**damage)
        path.unlink()
        pq.write_table(pa.Table.from_pandas(frame, ROWS.schema, preserve_index=False), path)
        before = (world.root / f"data/explanations/{CELL}/lime/index.parquet").read_bytes()
        done = world.stage("explain", "--cell", CELL, "--method", "lime", check=False)
        assert done.returncode == 1
        assert re.fullmatch(rf"error: data/cells/{CELL}/rows\.parquet: {message}\n", done.stderr), done.stderr
        assert (world.root / f"data/explanations/{CELL}/lime/index.parquet").read_bytes() == before
        path.write_bytes(good)


def cut(path: Path) -> None:
    table = pq.read_table(path)  # pyarrow keeps what is said in the schema, and drops what is said of the file
    pq.write_table(table[: len(table) // 2], path)


def reversed_maps(path: Path) -> None:
    np.save(path, np.load(path)[::-1])


def other_pictures(path: Path) -> None:
    np.save(path, 255 - np.load(path))


def swapped(path: Path) -> None:
    first, second = sorted(path.parent.glob("epoch_*.safetensors"))[:2]
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def accuracy_of_two(path: Path) -> None:
    path.write_text(re.sub(r'("test_accuracy": )[\d.]+', r"\g<1>2", path.read_text()))


EXPLAIN, SCORE = (("--cell", CELL, "--method", "lime"),) * 2
DAMAGE: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...]]] = {
    f"data/explanations/{CELL}/lime/maps.npy": (
        r"the map of row \d+: not the one that was written",
        reversed_maps,
        ("score", *SCORE),
    ),
    f"data/explanations/{CELL}/lime/index.parquet": ("another program", cut, ("faithfulness", *SCORE)),
    f"data/cells/{CELL}/pictures.npy": ("found a file with the SHA-256", other_pictures, ("explain", *EXPLAIN)),
    f"data/cells/{CELL}/rows.parquet": ("another program", cut, ("explain", *EXPLAIN)),
    f"data/models/{CELL}/epoch_001.safetensors": ("found a file with the SHA-256", swapped, ("explain", *EXPLAIN)),
    f"data/scores/{CELL}/lime/scores.parquet": ("another program", cut, ("aggregate",)),
    f"metrics/training/{CELL}.json": ("test_accuracy: found 2", accuracy_of_two, ("aggregate",)),
}


@pytest.mark.parametrize("file", DAMAGE, ids=lambda file: file.rpartition("/")[2])
def test_what_is_damaged_becomes_no_result(file: str, world: World) -> None:
    message, damage, (stage, *arguments) = DAMAGE[file]
    path = world.root / file
    beside = {one: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}
    for one, content in beside.items():  # DVC may have linked it to its cache
        one.unlink()
        one.write_bytes(content)
    damage(path)
    try:
        done = world.stage(stage, *arguments, check=False)
    finally:
        for one, content in beside.items():
            one.write_bytes(content)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: {file}: .*{message}.*; {re.escape(DAMAGED)}\n", done.stderr), done.stderr
    world.stage(stage, *arguments)


def test_a_checkpoint_that_does_not_fit_is_one_line(world: World) -> None:
    file = world.root / f"data/models/{CELL}/network.json"
    good = file.read_text()
    file.unlink()
    file.write_text(good.replace("96", "80"))
    done = world.stage("predict", "--cell", CELL, "--dataset", "pictures", check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"error: data/models/{CELL}/trained\.safetensors: the checkpoint does not fit the model: \S+ has "
        r"shape \(\d.*\); allowed: \(.*\)\n",
        done.stderr,
    )
    file.write_text(good)


def test_data_docs(world: World) -> None:
    done = world.stage("data_docs")
    page = world.root / done.stdout.strip()
    assert page.exists()
    assert "unexpected" not in done.stderr
    for table in ("data-prepared-pictures-plan", f"data-localisation-{CELL}-lime-localisation", "data-limits"):
        assert table in page.read_text()
    assert len(list(page.parent.rglob("*data-prepared-pictures-plan*.html"))) >= 1


def test_params_of_a_fresh_copy_resolve(tmp_path: Path) -> None:
    fresh = World(tmp_path)
    fresh.start_dvc()
    stages = fresh.run("dvc", "stage", "list", "--name-only").stdout.split()
    params = fresh.params
    datasets, cells, methods = (len(params[section]) for section in ("datasets", "cells", "saliency"))
    # Train, predict, limits, objects, gallery; explain, score, faithfulness, localisation.
    assert len(stages) == 2 + datasets + 5 * cells + 4 * cells * methods + 1


def test_what_dvc_does_not_cache_stays_until_it_is_replaced() -> None:
    """DVC deletes outputs before a stage runs, and could not bring these back if the run is interrupted."""
    outputs: list[tuple[str, dict[str, Any]]] = []
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        said = stage.get("do", stage)
        for listed in (said.get(kind, []) for kind in ("outs", "metrics", "plots")):
            outputs += [pair for one in listed if isinstance(one, dict) for pair in one.items()]
    kept = [path for path, options in outputs if options.get("cache") is False]
    assert len(kept) > 5
    assert all(options.get("persist") is True for path, options in outputs if path in kept)


def test_the_graph_is_short_and_names_no_python_file() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert len(text.splitlines()) <= 175
    assert ".py" not in re.sub(r"#.*", "", text)
