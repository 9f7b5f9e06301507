"""Bad parameters: one line that names the key, what was found and what is allowed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import params
from pipeline.errors import UserError
from stages import check_params
from tests.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("params"))


@pytest.fixture(autouse=True)
def restore(world: World) -> Any:
    before = (world.root / "params.yaml").read_text()
    yield
    (world.root / "params.yaml").write_text(before)


FILE: dict[str, Any] = {
    "file": "x.pth", "url": None, "sha256": None, "inside": [], "drop": [], "prefixes": [], "fresh": [],
    "names": "timm",
}  # fmt: skip
CASES: list[tuple[str, Any, str]] = [
    ("saliency.lime.samples", 0, "saliency.lime.samples: found 0; allowed: input should be greater than or equal to 2"),
    ("saliency.lime.samples", "100", "saliency.lime.samples: found '100'; allowed: input should be a valid integer"),
    ("saliency.lime.sample", 5, "saliency.lime.sample: unknown key, did you mean 'samples'?"),
    ("saliency.lime.features", None, "saliency.lime.features: missing; every key has to be written out"),
    ("saliency.lime.quickshift.ratio", 2.0, "saliency.lime.quickshift.ratio: found 2.0; allowed: input should be less"),
    (
        "saliency.lime.quickshift.ration",
        1,
        "unknown key, did you mean 'ratio'? (allowed: kernel_size, max_dist, ratio)",
    ),
    ("saliency.smooth_grat", {}, "saliency: no saliency method is called 'smooth_grat', did you mean 'smooth_grad'?"),
    (
        "saliency.guided_ig.score",
        "sofmax",
        "saliency.guided_ig.score: found 'sofmax'; allowed: input should be 'softmax'",
    ),
    (
        "datasets.digits.loader",
        "digit",
        "datasets.digits.loader: no dataset loader is called 'digit', did you mean 'digi",
    ),
    ("datasets.digits.image_size", 4, "datasets.digits.image_size: found 4; allowed: input should be greater than"),
    ("datasets.shapes.area", {"smallest": 0.2, "largest": 0.1}, "smallest must not exceed largest"),
    ("models.resnet_mini.cam_layot", "tokens", "unknown key, did you mean 'cam_layout'?"),
    ("models.resnet_mini.mean", [0.5], "models.resnet_mini.mean"),
    ("plan.transforms", ["rotat"], "plan.transforms: no transform is called 'rotat', did you mean 'rotate'?"),
    ("plan.checkpoints", [0], "plan.checkpoints.0: found 0"),
    ("training.digits.optimizer", "adamm", "training.digits.optimizer: found 'adamm'; allowed: input should be 'adam'"),
    (
        "training.digits.epochs",
        3,
        "training.digits.epochs: found 3; allowed: input should be greater than or equal to 10",
    ),
    ("training.shape", {}, "training"),
    ("training.digits", None, "training.digits: there is no such key"),
    ("sead", 1, "params.yaml: no section is called 'sead', did you mean 'seed'?"),
    ("seed", -1, "seed: found -1"),
    ("seed", True, "seed: found True"),
    ("statistics.confidence", 95, "statistics.confidence: found 95"),
    ("datasets.my pictures", {}, "datasets: found the name 'my pictures'; allowed: letters, digits and _"),
    ("datasets.digits", None, "training: no dataset is called 'digits'"),
    ("saliency.lime", "fast", "saliency.lime: found 'fast'; allowed: input should be a valid mapping"),
    ("plan", [], "plan: found []; allowed: input should be a valid mapping"),
    (
        "training.digits.learning_rate",
        float("inf"),
        "training.digits.learning_rate: found inf; allowed: input should be",
    ),
    (
        "models.resnet_mini.std",
        [0.2, 0.0, 0.2],
        "models.resnet_mini.std.1: found 0.0; allowed: input should be greater",
    ),
    ("similarity.window", 4, "similarity.window: found 4; allowed: input should be 3, 5, 7"),
    ("plan.checkpoints", [90, 99], "plan.checkpoints: found [90, 99], which are epochs [9, 10] of 10"),
    ("plan.checkpoints", [1, 10], "allowed: different epochs before the last"),
    (
        "models.resnet_mini.architecture",
        "resnet81",
        "models.resnet_mini.architecture: no timm model is called 'resnet81'",
    ),
    (
        "models.resnet_mini.recipes",
        {"digit": {}},
        "models.resnet_mini.recipes: no dataset is called 'digit', did you mean",
    ),
    (
        "models.resnet_mini.recipes",
        {"digits": {"epoch": 20}},
        "models.resnet_mini.recipes.digits.epoch: unknown key, did you mean 'epochs'?",
    ),
    (
        "models.resnet_mini.recipes",
        {"digits": {"epochs": 3}},
        "models.resnet_mini.recipes.digits.epochs: found 3; allowed: input should be greater than or equal to 10",
    ),
    ("models.resnet_mini.checkpoints", {"digits": {}}, "checkpoints.digits: found no 'trained'; it is needed"),
    (
        "models.resnet_mini.checkpoints",
        {"digits": {"trained": FILE, "epoch_011": FILE}},
        "checkpoints.digits: no state of this training is called 'epoch_011', did you mean 'epoch_001'?",
    ),
    (
        "models.resnet_mini.checkpoints",
        {"digits": {"last": FILE}},
        "models.resnet_mini.checkpoints.digits.last: found 'last'; allowed: string should match pattern",
    ),
    ("models.resnet_mini.weights", "tim", "models.resnet_mini.weights: found 'tim'; allowed: input should be 'timm'"),
    ("models.resnet_mini.weights", 3, "models.resnet_mini.weights: found 3; allowed: input should be a valid mapping"),
    (
        "models.resnet_mini.weights",
        FILE | {"sha256": 12345678},
        "models.resnet_mini.weights.sha256: found 12345678; allowed: input should be a valid string, in quotes",
    ),
    (
        "models.resnet_mini.weights",
        FILE | {"drop": "head.*"},
        "weights.drop: found 'head.*'; allowed: input should be a va",
    ),
    (
        "models.resnet_mini.recipes",
        {"digits": {"head": [3]}},
        "models.resnet_mini.recipes.digits.head: found [3]; allowed: in training.digits alone",
    ),
    (
        "models.resnet_mini.checkpoints",
        {"digits": {"trained": FILE}},
        "checkpoints.digits.trained.sha256: found null; allowed: the checksum, by which a change of the file is",
    ),
    (
        "models.resnet_mini.weights",
        FILE | {"nams": "timm"},
        "models.resnet_mini.weights.nams: unknown key, did you mean 'names'? (allowed: drop, file, fresh, inside",
    ),
    (
        "models.resnet_mini.weights",
        FILE | {"sha256": "12"},
        "models.resnet_mini.weights.sha256: found '12'; allowed: string should match pattern",
    ),
    (
        "training.digits.backbone",
        "frozn",
        "training.digits.backbone: found 'frozn'; allowed: input should be 'frozen' or",
    ),
    (
        "training.digits.head",
        [0],
        "training.digits.head.0: found 0; allowed: input should be greater than or equal to 1",
    ),
    ("saliency.lime.images", 9, "saliency.lime.images: found 9; allowed: at most 8 (plan.images), or all"),
    ("datasets.digits.split.test", "offical", "datasets.digits.split.test: found 'offical'; allowed:"),
    ("saliency", {}, "saliency: found nothing; allowed: at least one entry"),
]


@pytest.mark.parametrize(("key", "value", "message"), CASES)
def test_bad_value(world: World, key: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.edit(key, value)
    monkeypatch.chdir(world.root)
    params._document.cache_clear()
    with pytest.raises(UserError) as caught:
        check_params.main()
    params._document.cache_clear()
    assert str(caught.value).startswith("params.yaml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (world.root / "data").exists()


def test_the_command_prints_one_line_and_fails(world: World) -> None:
    world.edit("saliency.lime.samples", 0)
    done = world.stage("check_params", check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "error: params.yaml: saliency.lime.samples: found 0; allowed: input should be greater than or equal to 2\n"
    )


def test_the_projects_own_params_are_good(world: World) -> None:
    world.stage("check_params")
    assert (world.root / "data/gates/params.json").exists()
    shutil.rmtree(world.root / "data")


def test_numbers_are_read_as_dvc_reads_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (world.root / "params.yaml").read_text()
    (world.root / "params.yaml").write_text(text.replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    monkeypatch.chdir(world.root)
    params._document.cache_clear()
    assert params.read("training.digits.learning_rate", float) == 0.001
    assert params.read("training.digits.augment", bool) is True
    params._document.cache_clear()


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- 1", "found list; a mapping")])
def test_unreadable_params(world: World, text: str, message: str) -> None:
    (world.root / "params.yaml").write_text(text)
    done = world.stage("check_params", check=False)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_traceback_when_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_TRACEBACK", "1")
    world.edit("seed", -1)
    assert "Traceback" in world.stage("check_params", check=False).stderr


def test_unknown_names_on_the_command_line(world: World) -> None:
    done = world.stage("explain", "--dataset", "digits", "--model", "resnet_mini", "--method", "limee", check=False)
    assert done.returncode == 1
    assert "no saliency method is called 'limee', did you mean 'lime'?" in done.stderr
    done = world.stage("train", "--dataset", "digit", "--model", "resnet_mini", check=False)
    assert done.returncode == 1
    assert "datasets.digit.image_size: there is no such key, did you mean 'digits'?" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [("COSE_THREADS", "two", "a whole number from 1"), ("COSE_DEVICE", "gpu", "COSE_DEVICE: found 'gpu'; not usable")],
)
def test_bad_environment(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    from pipeline.compute import device

    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=message):
        device()


def test_params_file_is_found_from_the_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params._document.cache_clear()
    with pytest.raises(UserError, match="run from the root of the repository"):
        params.read("seed", params.Seed)
    params._document.cache_clear()
