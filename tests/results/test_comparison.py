"""Our numbers beside the paper's: by hand, and nothing left out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline.core.tables import write
from pipeline.metrics.scores import SCORES, scores_file, scores_folder
from pipeline.models.training_metrics import TrainingMetrics, training_metrics_file
from pipeline.results.comparison import accuracies, average_cose, compare, published
from pipeline.results.opti_cam import MODELS, STUDIES, compare_study
from pipeline.results.summary import COSE
from tests.world import World

PROFILE = yaml.safe_load(Path("profiles/paper.yaml").read_text())


def cose_line(cell: tuple[str, str, str], value: float | None, **changes: Any) -> dict[str, Any]:
    line = {column.name: None if column.nullable else 0 for column in COSE.columns}
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
    table = compare(COSE.from_lines(cells), lambda cell: asked.append(cell) or f"no {cell[2]}")
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


def test_averages_are_over_the_papers_cells() -> None:
    cells = [
        cose_line(("cub200", "vit_b16", "lime"), 0.5),
        cose_line(("eurosat", "vit_b16", "lime"), 0.7),
        cose_line(("eurosat", "resnet101", "lime"), 0.1),  # not in the paper's table
        cose_line(("cub200", "vit_b16", "lime"), 0.9, protocol="balanced"),
        cose_line(("cub200", "vit_b16", "lime"), 0.4, similarity="spearman"),
    ]
    table = average_cose(COSE.from_lines(cells)).set_index(["method", "similarity"])
    assert table.loc[("lime", "ssim"), ["ours", "cells", "published", "difference"]].tolist() == [60, 2, 60.11, -0.11]
    assert table.loc[("lime", "spearman"), ["ours", "cells"]].tolist() == [40, 1]
    assert pd.isna(table.loc[("grad_cam", "ssim"), "ours"])
    assert average_cose(pd.DataFrame())["ours"].isna().all()


OPTI_CAM = yaml.safe_load(Path("profiles/opti_cam.yaml").read_text())


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.ours)
def test_the_posters_tables_have_the_names_of_its_profile(study: Any) -> None:
    theirs = published(study.table)
    methods = set(theirs["method"]) - {"box", "outside_box"}
    assert methods <= set(OPTI_CAM["saliency"])
    assert set(theirs.get("model", ["VGG16"])) <= set(MODELS)
    assert set(MODELS.values()) == set(OPTI_CAM["models"])
    if study.ours == "faithfulness":
        assert set(theirs["metric"]) <= set(OPTI_CAM[study.ours])


def measured(**line: Any) -> dict[str, Any]:
    return {
        "cell": "imagenet-vgg16",
        "dataset": "imagenet",
        "model": "vgg16",
        "at": None,
        "low": None,
        "high": None,
        **line,
    }


def test_the_posters_numbers_are_laid_beside_ours_in_its_units() -> None:
    masking, localisation, boxes = STUDIES
    ours = pd.DataFrame(
        [
            measured(method="grad_cam", metric="average_drop", mean=14.0, low=13.0, high=15.0),
            measured(method="grad_cam", metric="insertion", mean=0.65),
            measured(method="grad_cam", metric="insertion", mean=0.1, at=20),
        ]
    )
    found = compare_study(masking, ours, lambda number: " ".join(number)).set_index(["model", "method", "metric"])
    assert found.loc[("vgg16", "grad_cam", "average_drop"), ["ours", "low", "published", "difference"]].tolist() == (
        [14.0, 13.0, 14.2, -0.2]
    )
    assert found.loc[("vgg16", "grad_cam", "insertion"), ["ours", "published", "difference"]].tolist() == [
        65,
        64.1,
        0.9,
    ]
    assert found.loc[("deit_b16", "fake_cam", "average_gain"), "missing"] == "imagenet deit_b16 fake_cam"
    where = pd.DataFrame(
        [
            measured(method="fake_cam", metric="saliency_metric", mean=1.0),
            measured(method="fake_cam", metric="energy_pointing_game", mean=0.5356),
        ]
    )
    found = compare_study(localisation, where, lambda number: "why").set_index(["model", "method", "metric"])
    assert found.loc[("vgg16", "fake_cam", "saliency_metric"), ["ours", "difference"]].tolist() == [1.0, -0.07]
    energy = found.loc[("vgg16", "fake_cam", "energy_pointing_game")]
    assert energy[["ours", "published", "difference"]].tolist() == [53.56, 28.5, 25.06]
    assert energy["note"].startswith("published with rows indexed by x")
    part = pd.DataFrame([measured(method="box", part="map", metric="average_drop", mean=60.0)])
    found = compare_study(boxes, part, lambda number: "why").set_index(["method", "part", "metric"])
    assert found.loc[("box", "map", "average_drop"), ["ours", "difference"]].tolist() == [60.0, -7.2]
    for method, of in (("grad_cam", "map_inside_box"), ("box", "map"), ("outside_box", "map")):
        assert found.loc[(method, of, "average_drop"), "note"].startswith("published with rows of boxes")
    assert pd.isna(found.loc[("grad_cam", "map", "average_drop"), "note"])


def test_no_measurement_is_all_missing() -> None:
    for study in STUDIES:
        assert (compare_study(study, pd.DataFrame(), lambda number: "why")["missing"] == "why").all()


def test_accuracies_by_hand() -> None:
    table = accuracies(
        {
            ("first", "cub200", "vit_b16"): TrainingMetrics(
                validation_accuracy=1.0, test_accuracy=0.8, test_images=100
            ),
            ("second", "digits", "mini"): TrainingMetrics(validation_accuracy=0.0, test_accuracy=1.0, test_images=10),
        },
        0.95,
    )
    first, second = table.to_dict("records")
    assert [(line["cell"], line["dataset"], line["model"], line["test_images"]) for line in (first, second)] == [
        ("first", "cub200", "vit_b16", 100),
        ("second", "digits", "mini", 10),
    ]
    # Wilson's interval of 80 of 100: centre (0.8 + z²/200) / (1 + z²/100), z = 1.96.
    assert (first["accuracy_low"], first["accuracy_high"]) == (71.12, 86.66)
    assert (first["published"], first["difference"]) == (81.0, -1.0)
    assert pd.isna(second["published"])
    assert second["accuracy_high"] == 100
    assert second["accuracy_low"] == pytest.approx(72.25)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("comparison"))


CELL = "cub200-swin_tiny"


def score_a_method(world: World, method: str, second: int) -> None:
    """Write scores of one image: of a transform that keeps the prediction right, and of one that predicts another."""
    line = {
        "turn": 0,
        "image": 0,
        "kind": "transform",
        "transform": "flip_lr",
        "magnitude": None,
        "state": "trained",
        "label": 1,
        "reference_prediction": 1,
        "valid_pixels": 9,
        "spearman": None,
    }
    lines = [line | {"row": 1, "prediction": 1, "ssim": 0.7}, line | {"row": 2, "prediction": second, "ssim": 0.4}]
    folder = world.root / scores_folder(CELL, method)
    write(SCORES, scores_file(folder), SCORES.from_lines(lines))
    about = {"left_out": None, "values": "unit", "computed_by": {}}
    (folder / "about.json").write_text(json.dumps(about))
    explained = world.root / "data/explanations" / CELL / method
    explained.mkdir(parents=True)
    (explained / "about.json").write_text(json.dumps(about))


def compared(world: World) -> dict[tuple[str, str, str], dict[str, str]]:
    """Return the lines of the comparison by dataset, model and method."""
    world.stage("compare")
    with (world.root / "metrics/comparison.csv").open() as file:
        return {(line["dataset"], line["model"], line["method"]): line for line in csv.DictReader(file)}


@pytest.mark.slow
def test_the_command_says_what_is_missing_and_why(world: World) -> None:
    done = world.stage("compare").stdout
    assert "140 numbers in the paper's Table 1, 0 of them here" in done
    assert "28 missing: cub200 is not among the datasets of params.yaml (make params PROFILE=paper)" in done
    (world.root / "params.yaml").write_bytes((world.root / "profiles/paper.yaml").read_bytes())
    params = world.params
    del params["models"]["vit_b16"]
    params["cells"] = {name: cell for name, cell in params["cells"].items() if cell["model"] != "vit_b16"}
    params["cells"][CELL]["without"] = {"smooth_grad": "too slow here"}
    of_convnext = next(
        name for name, cell in params["cells"].items() if cell == {"dataset": "eurosat", "model": "convnext_small"}
    )
    del params["cells"][of_convnext]
    world.set(params)
    prepared = world.root / "data/prepared/cub200"
    prepared.mkdir(parents=True)
    (prepared / "splits.parquet").touch()
    for model in ("resnet50", "swin_tiny"):
        file = world.root / training_metrics_file(f"cub200-{model}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({}))
    score_a_method(world, "lime", second=0)
    score_a_method(world, "grad_cam", second=1)
    rows = world.root / "data/cells" / CELL / "rows.parquet"
    rows.parent.mkdir(parents=True)
    rows.touch()
    (world.root / "data/explanations" / CELL / "guided_ig").mkdir()
    (world.root / "data/explanations" / CELL / "guided_ig/about.json").touch()
    lines = compared(world)
    assert lines["cub200", "swin_tiny", "lime"] == {
        "dataset": "cub200",
        "model": "swin_tiny",
        "method": "lime",
        "ours": "64.81",
        "low": "",
        "high": "",
        "published": "59.06",
        "difference": "5.75",
        "missing": "",
    }
    missing = {key: line["missing"] for key, line in lines.items()}
    assert missing["cub200", "vit_b16", "lime"].startswith("vit_b16 is not among the models of params.yaml")
    assert missing["cub200", "resnet50", "lime"] == "not predicted yet (dvc repro)"
    assert missing["cub200", "swin_tiny", "grad_cam"].startswith("undefined: no prediction is kept right, or none")
    assert missing["cub200", "swin_tiny", "smooth_grad"] == "left out: too slow here"
    assert missing["cub200", "swin_tiny", "guided_ig"] == "not scored yet (dvc repro)"
    assert missing["cub200", "swin_tiny", "blur_ig"] == "not explained yet (dvc repro)"
    assert missing["cub200", "convnext_small", "blur_ig"] == "not trained yet (dvc repro)"
    assert missing["eurosat", "convnext_small", "lime"] == "no cell of params.yaml has this dataset and model"
    assert missing["cifar10", "swin_tiny", "blur_ig"].startswith(
        "not prepared yet (dvc repro); not here: data/sources/cifar10/cifar-10-python.tar.gz, downloaded from https://"
    )
    (world.root / training_metrics_file(CELL)).unlink()
    weights = PROFILE["models"]["swin_tiny"]["weights"]
    assert compared(world)["cub200", "swin_tiny", "blur_ig"]["missing"] == (
        f"not trained yet (dvc repro); not here: {weights['file']}, downloaded from {weights['url']}"
    )
