"""The whole chain under DVC on a miniature of each of the paper's datasets, in the publishers' own formats."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.publishers import PUBLISHERS
from tests.world import ROOT, World, every_cell

pytestmark = pytest.mark.slow
PAPER = yaml.safe_load((ROOT / "profiles/paper.yaml").read_text())
SIZE = 32
CHAINED = ("cub200", "eurosat")
"""Datasets that go through the whole chain: the network learns on one, only a head on the other."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("paper"), warm=True)
    params = made.params
    params["datasets"] = {
        name: PAPER["datasets"][name]
        | {"folder": f"sources/{name}", "image_size": SIZE, "images": PUBLISHERS[name](made.root / "sources" / name)}
        for name in PUBLISHERS
    }
    for name in ("cifar10", "cub200"):  # few images a class: more of them validate
        params["datasets"][name]["split"] = {"validation": 0.34, "test": "official"}
    params["training"] = {
        name: PAPER["training"][name] | {"epochs": 10, "learning_rate": 3e-3, "augment": name != "eurosat"}
        for name in PUBLISHERS
    }
    params["models"] = {
        "tiny": params["models"]["resnet_mini"]
        | {"arguments": {"layers": [1, 1, 1, 1], "channels": [8, 12, 16, 24], "output_stride": 8}}
    }
    params["cells"] = {name: cell for name, cell in every_cell(params).items() if cell["dataset"] in CHAINED}
    params["saliency"] = {"grad_cam": {"images": 2}}
    params["similarity"] = PAPER["similarity"]
    params["plan"] |= {"images": 4, "images_of": {}, "first": {}, "magnitudes": 1, "checkpoints": [20, 50], "layers": 0}
    made.set(params)
    made.start_dvc()
    return made


def test_every_dataset_runs_from_archive_to_number(world: World) -> None:
    ran = world.repro()
    assert len(ran) == 2 + 5 + 2 * 9 + 1
    table = pd.read_csv(world.root / "metrics/cose.csv")
    assert set(table["dataset"]) == set(CHAINED)
    accuracy = pd.read_csv(world.root / "metrics/accuracy.csv")
    assert set(accuracy["dataset"]) == set(CHAINED)
    assert accuracy["test_images"].gt(0).all()


def test_boxes_and_masks_reach_the_numbers(world: World) -> None:
    means = pd.read_csv(world.root / "metrics/localisation.csv").set_index(["dataset", "metric"])
    wanted = world.params["localisation"]["metrics"]
    birds, land = means.loc["cub200"], means.loc["eurosat"]
    assert birds.index.tolist() == land.index.tolist() == wanted
    assert birds["missing"].isna().all()
    assert (birds["images"] + birds["undefined"] == 2).all()
    assert set(land["missing"].dropna()) == {"no image has a box", "no image has a mask"}
    assert land[land["missing"].isna()].index.tolist() == ["saliency_metric"]
    study = pd.read_csv(world.root / "metrics/box_study.csv")
    assert set(study["dataset"]) == {"cub200"}
    assert study.groupby(["method", "part"], sort=False).size().to_dict() == {
        ("box", "map"): 3,
        ("outside_box", "map"): 3,
        ("grad_cam", "map"): 3,
        ("grad_cam", "map_inside_box"): 3,
        ("grad_cam", "map_outside_box"): 3,
    }


@pytest.mark.parametrize("name", sorted(PUBLISHERS))
def test_what_a_dataset_left_behind(world: World, name: str) -> None:
    prepared = world.root / "data/prepared" / name
    splits = pd.read_parquet(prepared / "splits.parquet")
    classes = {"caltech101": 101, "cifar10": 10, "cub200": 200, "eurosat": 10, "oxford102": 102}[name]
    assert splits["label"].nunique() == classes
    for _, of_class in splits.groupby("label"):
        assert set(of_class["split"]) == {"train", "validation", "test"}
    images, boxes = pd.read_parquet(prepared / "images.parquet"), pd.read_parquet(prepared / "boxes.parquet")
    assert len(images) == len(splits)
    assert images["mask"].notna().any() == (name in ("caltech101", "cub200", "oxford102"))
    assert (len(boxes) > 0) == (name in ("caltech101", "cub200"))
    plan = pd.read_parquet(prepared / "plan.parquet")
    assert plan["turn"].nunique() == 4
    assert plan["row"].is_unique


@pytest.mark.parametrize("name", CHAINED)
def test_what_a_chain_left_behind(world: World, name: str) -> None:
    plan = pd.read_parquet(world.root / f"data/prepared/{name}/plan.parquet")
    splits = pd.read_parquet(world.root / f"data/prepared/{name}/splits.parquet")
    index = pd.read_parquet(world.root / f"data/explanations/{name}-tiny/grad_cam/index.parquet")
    assert set(index["row"]) == set(plan["row"][plan["turn"] < 2])

    frozen = name != "cub200"
    folder = world.root / f"data/models/{name}-tiny"
    weights = {file.stem: load_file(file) for file in folder.glob("*.safetensors")}
    assert set(weights) == {"trained", "random", "epoch_002", "epoch_005"} | ({"backbone"} if frozen else set())
    head = len(PAPER["training"][name]["head"]) + 1
    assert len([key for key in weights["trained"] if key.startswith("fc.") and key.endswith("weight")]) == head
    assert all(key.startswith("fc.") for key in weights["trained"]) == frozen
    assert any(not key.startswith("fc.") for key in weights["random"])
    metrics = json.loads((world.root / f"metrics/training/{name}-tiny.json").read_text())
    states = json.loads((world.root / f"data/models/{name}-tiny/states.json").read_text())
    assert states["checkpoints"] == {"20": "epoch_002", "50": "epoch_005"}
    assert states["weights_from"] == {"trained": None}
    assert states["computed_by"]["batch"] == world.params["training"][name].get("batch_size", 32)
    assert metrics["test_images"] == (splits["split"] == "test").sum()


def test_a_model_of_the_users_own_stands_in_for_training(world: World) -> None:
    models = world.root / "data/models/cub200-tiny"
    for state in ("trained", "epoch_005"):
        weights = {f"module.{key}": tensor for key, tensor in load_file(models / f"{state}.safetensors").items()}
        torch.save({"epoch": 5, "model": weights}, world.root / f"{state}.pth")
    checksum = {
        state: hashlib.sha256((world.root / f"{state}.pth").read_bytes()).hexdigest()
        for state in ("trained", "epoch_005")
    }
    params = world.params
    file = {"inside": ["model"], "prefixes": ["module."]}
    own = {state: file | {"file": f"{state}.pth", "sha256": checksum[state]} for state in checksum}
    params["datasets"] = {"cub200": params["datasets"]["cub200"]}
    params["training"] = {"cub200": params["training"]["cub200"]}
    params["models"]["mine"] = params["models"]["tiny"] | {"checkpoints": {"cub200": own}}
    params["cells"] = every_cell(params)
    params["models"]["mine"]["checkpoints"]["cub200"]["trained"]["sha256"] = None
    world.set(params)
    done = world.stage("check_params", check=False)
    assert done.stderr == (
        "error: params.yaml: models.mine.checkpoints.cub200.trained.sha256: found null; allowed: the checksum, by "
        f"which a change of the file is noticed (now {checksum['trained']})\n"
    )
    params["models"]["mine"]["checkpoints"]["cub200"]["trained"]["sha256"] = checksum["trained"]
    world.set(params)
    ran = world.repro()
    assert {stage for stage in ran if "tiny" in stage} == set()
    tables = {
        model: pd.read_parquet(world.root / f"data/cells/cub200-{model}/rows.parquet") for model in ("tiny", "mine")
    }
    assert set(tables["mine"]["state"]) == {"trained", "random", "epoch_005"}
    both = tables["tiny"].merge(tables["mine"], on=["row", "state", "prediction", "probability"])
    assert len(both) == (tables["mine"]["state"] != "random").sum()
    scores = pd.read_parquet(world.root / "data/scores/cub200-mine/grad_cam/scores.parquet")
    assert set(scores["state"]) == {"trained", "random", "epoch_005"}


def test_training_starts_from_a_files_weights(world: World) -> None:
    own = torch.load(world.root / "trained.pth", weights_only=True)["model"]
    params = world.params
    params["models"]["started"] = params["models"]["tiny"] | {
        "recipes": {"cub200": {"backbone": "frozen"}},
        "weights": {"file": "trained.pth", "inside": ["model"], "drop": ["module.fc.*"], "prefixes": ["module."]},
    }
    params["cells"]["cub200-started"] = {"dataset": "cub200", "model": "started"}
    world.set(params)
    world.run("dvc", "repro", "train@cub200-started")
    folder = world.root / "data/models/cub200-started"
    backbone = load_file(folder / "backbone.safetensors")
    assert set(backbone) == {key.removeprefix("module.") for key in own if not key.startswith("module.fc.")}
    assert all(torch.equal(tensor, own[f"module.{key}"]) for key, tensor in backbone.items())
    origin = json.loads((folder / "states.json").read_text())["weights_from"]["trained"]
    checksum = hashlib.sha256((world.root / "trained.pth").read_bytes()).hexdigest()
    assert origin == f"trained.pth, SHA-256 {checksum}"
    del params["models"]["started"], params["cells"]["cub200-started"]
    world.set(params)


def test_what_is_said_in_other_words_reruns_no_training(world: World) -> None:
    params = world.params
    params["models"]["tiny"]["recipes"] = {"cub200": {"epochs": 10}}
    world.set(params)
    assert set(world.repro()) <= {"check_params", "aggregate"}


def test_how_a_model_came_to_its_weights_reruns_no_explanation(world: World) -> None:
    params = world.params
    # A patience that ten epochs do not exhaust, like the one before: the same training once more.
    params["models"]["tiny"]["recipes"] = {"cub200": {"plateau_patience": 500}}
    world.set(params)
    ran = set(world.repro())
    assert {"check_params", "train@cub200-tiny"} <= ran
    assert not {stage for stage in ran if stage.startswith(("predict", "explain", "score"))}


def test_an_archive_that_is_cut_short_stops_the_run_in_one_line(world: World) -> None:
    folder = world.root / "damaged"
    folder.mkdir()
    (folder / "EuroSAT.zip").write_bytes(b"PK\x03\x04 cut short")
    params = world.params
    params["datasets"]["eurosat"] = PAPER["datasets"]["eurosat"] | {"folder": "damaged"}
    params["training"]["eurosat"] = PAPER["training"]["eurosat"]
    world.set(params)
    done = world.run("dvc", "repro", "prepare@eurosat", check=False)
    assert done.returncode != 0
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: damaged/EuroSAT.zip: found 14 bytes with the MD5 checksum ")
    assert not (world.root / "data/prepared/eurosat").exists() or not list(
        Path(world.root / "data/prepared/eurosat").iterdir()
    )
