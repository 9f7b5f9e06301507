"""Bad parameters: one line that names the key, what was found and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import params
from pipeline.core.errors import UserError
from stages import check_params
from tests.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("params"))


@pytest.fixture(autouse=True)
def restore(world: World) -> Iterator[None]:
    before = (world.root / "params.yaml").read_text()
    params._document.cache_clear()
    yield
    params._document.cache_clear()
    (world.root / "params.yaml").write_text(before)


MINI = "models.resnet_mini"
FILE: dict[str, Any] = {"file": "x.pth"}
KNOWN = FILE | {"sha256": "0" * 64}
CASES: list[tuple[str, Any, str]] = [
    ("seed", -1, "seed: found -1; allowed: at least 0"),
    ("seed", True, "seed: found True; allowed: a whole number"),
    ("sead", 1, "no section is called 'sead', did you mean 'seed'?"),
    ("plan", [], "plan: found []; allowed: a mapping"),
    ("saliency", {}, "saliency: found nothing; allowed: at least one entry"),
    ("similarity.window", 4, "similarity.window: found 4; allowed: 3, 5, 7"),
    ("statistics.confidence", 95, "statistics.confidence: found 95; allowed: less than 1"),
    # Datasets
    (
        "datasets.digits.loader",
        "digit",
        "datasets.digits.loader: no dataset loader is called 'digit', did you mean 'digits'?",
    ),
    ("datasets.digits.image_size", 4, "datasets.digits.image_size: found 4; allowed: at least 16"),
    ("datasets.digits.split.test", "offical", "datasets.digits.split.test: found 'offical'; allowed:"),
    ("datasets.shapes.area", {"smallest": 0.2, "largest": 0.1}, "smallest must not exceed largest"),
    # The plan
    ("plan.transforms", ["rotat"], "plan.transforms: no transform is called 'rotat', did you mean 'rotate'?"),
    ("plan.checkpoints", [0], "plan.checkpoints.0: found 0; allowed: at least 1"),
    (
        "plan.checkpoints",
        [90, 99],
        "training.shapes.epochs: found 10; allowed: multiples of 100, so that each of plan.checkpoints [90, 99] is the",
    ),
    ("plan.checkpoints", [25, 80], "training.shapes.epochs: found 10; allowed: multiples of 20, so that each of"),
    # Methods
    ("saliency.smooth_grat", {}, "saliency: no saliency method is called 'smooth_grat', did you mean 'smooth_grad'?"),
    ("saliency.lime", "fast", "saliency.lime: found 'fast'; allowed: a mapping"),
    ("saliency.lime.samples", 0, "saliency.lime.samples: found 0; allowed: at least 2"),
    ("saliency.lime.samples", "100", "saliency.lime.samples: found '100'; allowed: a whole number"),
    ("saliency.lime.sample", 5, "saliency.lime.sample: unknown key, did you mean 'samples'?"),
    ("saliency.lime.features", None, "saliency.lime.features: missing; it has no default"),
    ("saliency.lime.images", 24, "saliency.lime.images: found 24; allowed: at most 23 (plan.images_of.photos), or all"),
    ("saliency.lime.quickshift.ratio", 2.0, "saliency.lime.quickshift.ratio: found 2.0; allowed: at most 1"),
    (
        "saliency.lime.quickshift.ration",
        1,
        "unknown key, did you mean 'ratio'? (allowed: kernel_size, max_dist, ratio)",
    ),
    ("saliency.guided_ig.score", "sofmax", "saliency.guided_ig.score: found 'sofmax'; allowed: 'softmax'"),
    # Training
    ("training.shape", {}, "training.shape.epochs: missing; it has no default"),
    ("training.digits.optimizer", "adamm", "training.digits.optimizer: found 'adamm'; allowed: 'adam'"),
    ("training.digits.epochs", 0, "training.digits.epochs: found 0; allowed: at least 1"),
    (
        "training.digits.epochs",
        12,
        "training.digits.epochs: found 12; allowed: multiples of 10, so that each of plan.checkpoints [10, 30, 50, 70, "
        "90] is the end of an epoch",
    ),
    (
        "training.digits.epoch",
        10,
        "training.digits.epoch: unknown key, did you mean 'epochs'? (allowed: augment, backbone, batch_size",
    ),
    ("training.digits.learning_rate", float("inf"), "training.digits.learning_rate: found inf; allowed: "),
    ("training.digits.backbone", "frozn", "training.digits.backbone: found 'frozn'; allowed: 'frozen' or"),
    ("training.digits.head", [0], "training.digits.head.0: found 0; allowed: at least 1"),
    # Models
    (f"{MINI}.architecture", None, f"{MINI}.architecture: missing; it has no default"),
    (f"{MINI}.architecture", "resnet81", f"{MINI}.architecture: no timm model is called 'resnet81', did you mean 'res"),
    (f"{MINI}.cam_layot", "tokens", "unknown key, did you mean 'cam_layout'?"),
    (f"{MINI}.mean", [0.5], f"{MINI}.mean.1: missing; it has no default"),
    (f"{MINI}.std", [0.2, 0.0, 0.2], f"{MINI}.std.1: found 0.0; allowed: more than 0"),
    (f"{MINI}.recipes", {"digits": {"epoch": 20}}, f"{MINI}.recipes.digits.epoch: unknown key, did you mean 'epochs'?"),
    (f"{MINI}.recipes", {"digits": {"epochs": 0}}, f"{MINI}.recipes.digits.epochs: found 0; allowed: at least 1"),
    (
        f"{MINI}.recipes",
        {"digits": {"epochs": 3}},
        f"{MINI}.recipes.digits.epochs: found 3; allowed: multiples of 10, so that each of plan.checkpoints",
    ),
    (
        f"{MINI}.recipes",
        {"digits": {"head": [3]}},
        f"{MINI}.recipes.digits.head: found [3]; allowed: in training.digits alone",
    ),
    (f"{MINI}.weights", "tim", f"{MINI}.weights: found 'tim'; allowed: 'timm'"),
    (f"{MINI}.weights", 3, f"{MINI}.weights: found 3; allowed: a mapping"),
    (f"{MINI}.weights", {"names": "timm"}, f"{MINI}.weights.file: missing; it has no default"),
    (
        f"{MINI}.weights",
        FILE | {"sha256": 12345678},
        f"{MINI}.weights.sha256: found 12345678; allowed: text, in quotes",
    ),
    (f"{MINI}.weights", FILE | {"sha256": "12"}, f"{MINI}.weights.sha256: found '12'; allowed: text that matches"),
    (f"{MINI}.weights", FILE | {"drop": "head.*"}, "weights.drop: found 'head.*'; allowed: a list"),
    (
        f"{MINI}.weights",
        FILE | {"nams": "timm"},
        f"{MINI}.weights.nams: unknown key, did you mean 'names'? (allowed: drop, file, fresh, inside",
    ),
    ("datasets.digits.split.test", "foldres", "found 'foldres'; allowed: a number, 'official', 'folders' or 'table'"),
    ("saliency.lime.images", 0, "saliency.lime.images: found 0; allowed: at least 1 or 'all'"),
    ("saliency.lime.images", "al", "saliency.lime.images: found 'al'; allowed: a whole number or 'all'"),
    (f"{MINI}.checkpoints", {"digits": {}}, "checkpoints.digits: found no 'trained'; it is needed"),
    (
        f"{MINI}.checkpoints",
        {"digits": {"trained": KNOWN, "epoch_011": KNOWN}},
        "checkpoints.digits: no state of this training is called 'epoch_011', did you mean 'epoch_001'?",
    ),
    (
        f"{MINI}.checkpoints",
        {"digits": {"trained": KNOWN | {"fil": "x"}}},
        f"{MINI}.checkpoints.digits.trained.fil: unknown key, did you mean 'file'? (allowed: drop, file",
    ),
    (
        f"{MINI}.checkpoints",
        {"digits": {"last": KNOWN}},
        f"{MINI}.checkpoints.digits.last: found 'last'; allowed: text that matches",
    ),
    (
        f"{MINI}.checkpoints",
        {"digits": {"trained": FILE}},
        "checkpoints.digits.trained.sha256: found null; allowed: the checksum, by which a change of the file is",
    ),
]


TOO_MUCH: dict[str, Any] = {
    "seed": 2**63,
    "plan.images": 10**7,
    "plan.magnitudes": 10**9,
    "statistics.resamples": 10**10,
    "datasets.digits.image_size": 10**5,
    "datasets.shapes.images": 10**12,
    "training.digits.learning_rate": 1e300,
    "training.digits.epochs": 10**9,
    "training.digits.batch_size": 10**12,
    "training.digits.weight_decay": 1e300,
    "training.digits.head": [10**12],
    "training.digits.clip_value": 1e300,
    "saliency.lime.samples": 10**7,
    "saliency.lime.kernel_width": 1e308,
    "saliency.lime.quickshift.kernel_size": 0.5,
    "saliency.lime.quickshift.max_dist": 1e308,
    "saliency.lime.features": 10**12,
    "saliency.integrated_gradients.steps": 10**9,
    "saliency.integrated_gradients.baseline": 1e308,
    "saliency.guided_ig.steps": 10**9,
    "saliency.guided_ig.baseline": -1e308,
    "saliency.smooth_grad.samples": 10**9,
    "saliency.smooth_grad.noise": 1e308,
    "saliency.blur_ig.steps": 10**9,
    "saliency.blur_ig.max_sigma": 1e9,
    "saliency.blur_ig.grad_step": 1e308,
    "saliency.opti_cam.iterations": 10**9,
    "saliency.opti_cam.learning_rate": 1e308,
    "faithfulness.insertion.steps": 10**9,
    "faithfulness.insertion.sigma": 1e308,
    "faithfulness.insertion.kernel": 10**9 + 1,
    "faithfulness.infidelity": {"samples": 10**9, "noise": 0.1},
    "faithfulness.sensitivity_max": {"samples": 10**9, "radius": 0.02},
    "faithfulness.road_combined.noise": 1e308,
    "localisation.tolerance": 1e308,
    f"{MINI}.crop_fraction": 1e-9,
    f"{MINI}.arguments": {"layers": [1, 1, 1, 10**7]},
    f"{MINI}.architecture": "x" * 300,
    f"{MINI}.cam_layer": "x" * 300,
}
"""What would take days, all of the memory, or more than a floating-point number holds."""


@pytest.mark.parametrize("key", TOO_MUCH)
def test_too_much_is_refused_with_its_key(world: World, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.edit(key, TOO_MUCH[key])
    said = refused(world, monkeypatch)
    assert said.startswith(f"params.yaml: {key}")
    assert "allowed: " in said
    assert len(said) < 400


def refused(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the one line that params.yaml is refused with, before anything is written."""
    monkeypatch.chdir(world.root)
    with pytest.raises(UserError) as caught:
        check_params.main()
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)
    assert not (world.root / "data").exists()
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("key", "value", "message"), CASES)
def test_bad_value(world: World, key: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.edit(key, value)
    assert message in refused(world, monkeypatch)


def test_the_checksum_of_a_file_that_is_there_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.root / "x.pth").write_bytes(b"abc")
    world.edit(f"{MINI}.checkpoints", {"digits": {"trained": FILE}})
    assert refused(world, monkeypatch).endswith(
        "is noticed (now ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad)"
    )


@pytest.mark.slow
def test_the_command_prints_one_line_and_fails(world: World) -> None:
    world.edit("saliency.lime.samples", 0)
    done = world.stage("check_params", check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == ("error: params.yaml: saliency.lime.samples: found 0; allowed: at least 2\n")


def test_numbers_are_read_as_dvc_reads_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (world.root / "params.yaml").read_text()
    (world.root / "params.yaml").write_text(text.replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    monkeypatch.chdir(world.root)
    assert params.read("training.digits.learning_rate", float) == 0.001
    assert params.read("training.digits.augment", bool) is True


@pytest.mark.slow
@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- 1", "found list; allowed: a mapping")])
def test_unreadable_params(world: World, text: str, message: str) -> None:
    (world.root / "params.yaml").write_text(text)
    done = world.stage("check_params", check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_traceback_when_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_TRACEBACK", "1")
    world.edit("seed", -1)
    assert "Traceback" in world.stage("check_params", check=False).stderr


def test_params_file_is_found_from_the_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run from the root of the repository"):
        params.read("seed", params.Seed)
