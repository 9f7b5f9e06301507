"""The grid: its cells and what leaves a method out, checked as a whole before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pipeline.core import grid, params
from pipeline.core.documents import as_document
from pipeline.core.errors import UserError
from pipeline.core.grid import CellSettings
from pipeline.models.recipe import ModelSettings, read_recipe, read_train_entry
from pipeline.saliency.explanations import explain_entry_file, read_explain_entry
from pipeline.saliency.method import METHODS
from stages import check_params
from tests.world import ROOT, World

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("grid"))


@pytest.fixture(autouse=True)
def restore(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = (world.root / "params.yaml").read_text()
    monkeypatch.chdir(world.root)
    params._document.cache_clear()
    yield
    params._document.cache_clear()
    (world.root / "params.yaml").write_text(before)
    shutil.rmtree(world.root / "data", ignore_errors=True)


MINI, CELL = "models.resnet_mini", "cells.digits-resnet_mini"
CASES: list[tuple[str, Any, str]] = [
    ("cells", {}, "cells: found nothing; allowed: at least one entry"),
    (
        "cells.digits mini",
        {"dataset": "digits", "model": "resnet_mini"},
        "found the cell name 'digits mini'; allowed: letters, digits and _, with single hyphens between them",
    ),
    ("cells.mini", {"dataset": "digits"}, "cells.mini.model: missing; it has no default"),
    (f"{CELL}.dataset", "digit", f"{CELL}.dataset: no dataset is called 'digit', did you mean 'digits'?"),
    (f"{CELL}.model", "resnet_min", f"{CELL}.model: no model is called 'resnet_min', did you mean 'resnet_mini'?"),
    (f"{CELL}.modell", "resnet_mini", f"{CELL}.modell: unknown key, did you mean 'model'?"),
    (f"{CELL}.without", {"limee": "slow"}, f"{CELL}.without: no method is called 'limee', did you mean 'lime'?"),
    (f"{CELL}.without", ["lime"], f"{CELL}.without: found ['lime']; allowed: a mapping"),
    (f"{CELL}.without", {"lime": ""}, f"{CELL}.without.lime: found ''; allowed: at least 1 characters"),
    ("datasets.my pictures", {}, "name 'my pictures'; allowed: at most 100 letters, digits and _"),
    ("models.my-model", {"architecture": "resnet18"}, "found the model name 'my-model'; allowed: at most 100 letters"),
    ("saliency.li-me", {}, "found the method name 'li-me'; allowed: at most 100 letters"),
    (
        "localisation.metrics",
        ["box_acuracy"],
        "localisation.metrics: no localisation metric is called 'box_acuracy', did you mean 'box_accuracy'?",
    ),
    ("localisation.metrics", ["pixel_f1", "pixel_f1"], "localisation.metrics: found pixel_f1 twice; allowed: once"),
    (
        "localisation.box_study",
        ["road_morf"],
        "localisation.box_study: no masking metric of faithfulness is called 'road_morf' (known: average_drop, ",
    ),
    ("localisation.reading", "right", "localisation.reading: found 'right'; allowed: 'corrected' or"),
    ("localisation.tolerance", 0.0, "localisation.tolerance: found 0.0; allowed: more than 0"),
    ("training.digits", None, "training.digits: there is no such key"),
    (
        "cells.twice",
        {"dataset": "digits", "model": "resnet_mini"},
        "cells.twice: found digits and resnet_mini, as in cells.digits-resnet_mini; allowed: each pair once",
    ),
    ("datasets.digits", None, "training: no dataset is called 'digits' (known: photos, shapes)"),
    (f"{MINI}.recipes", {"digit": {}}, f"{MINI}.recipes: no dataset is called 'digit', did you mean 'digits'?"),
    (f"{MINI}.checkpoints", {"digit": {}}, f"{MINI}.checkpoints: no dataset is called 'digit', did you mean"),
]


@pytest.mark.parametrize(("key", "value", "message"), CASES)
def test_bad_value(world: World, key: str, value: Any, message: str) -> None:
    world.edit(key, value)
    with pytest.raises(UserError) as caught:
        check_params.main()
    assert str(caught.value).startswith("params.yaml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (world.root / "data").exists()


def grid_files(world: World) -> dict[str, Any]:
    root = world.root / "data/grid"
    return {file.relative_to(root).as_posix(): json.loads(file.read_text()) for file in root.rglob("*.json")}


@pytest.mark.slow
def test_the_projects_own_params_are_good_and_laid_out_file_by_file(world: World) -> None:
    world.stage("check_params")
    assert (world.root / "data/gates/params.json").exists()
    files = grid_files(world)
    assert files.pop("score.json") == PARAMS["similarity"]
    assert files.pop("faithfulness.json") == {"seed": PARAMS["seed"], "metrics": PARAMS["faithfulness"]}
    assert files.pop("localisation.json") == {
        "seed": PARAMS["seed"],
        "chosen": PARAMS["localisation"],
        "masking": {name: PARAMS["faithfulness"][name] for name in PARAMS["localisation"]["box_study"]},
    }
    trained = {cell: files.pop(f"train/{cell}.json") for cell in PARAMS["cells"]}
    assert {cell: (entry["dataset"], entry["model"]) for cell, entry in trained.items()} == {
        cell: (entry["dataset"], entry["model"]) for cell, entry in PARAMS["cells"].items()
    }
    explained = {
        f"explain/{cell}/{method}.json": {"left_out": None, "seed": PARAMS["seed"], "settings": settings}
        for cell in PARAMS["cells"]
        for method, settings in PARAMS["saliency"].items()
    }
    left_out = {
        f"explain/{name}/{method}.json": {"left_out": reason, "seed": None, "settings": {}}
        for name, cell in PARAMS["cells"].items()
        for method, reason in cell["without"].items()
    }
    assert files == explained | left_out


@pytest.mark.slow
@pytest.mark.parametrize("method", PARAMS["saliency"])
def test_what_is_laid_out_is_what_was_checked(method: str, world: World) -> None:
    world.edit(f"{CELL}.without", {})
    check_params.main()
    entry = read_explain_entry("digits-resnet_mini", method)
    kind = METHODS[method].settings
    found = as_document(entry.settings, kind, explain_entry_file("digits-resnet_mini", method))
    assert found == params.read(f"saliency.{method}", kind)
    assert (entry.left_out, entry.seed) == (None, PARAMS["seed"])


def test_what_training_gets_is_what_was_checked(world: World) -> None:
    own = {"trained": {"file": "own.pth", "sha256": "0" * 8}}
    world.edit("models.resnet_mini.checkpoints", {"digits": own, "shapes": own})
    world.edit("models.resnet_mini.recipes", {"digits": {"learning_rate": 0.5}, "shapes": {"learning_rate": 0.25}})
    check_params.main()
    entry = read_train_entry("digits-resnet_mini")
    assert (entry.seed, entry.dataset, entry.model) == (PARAMS["seed"], "digits", "resnet_mini")
    assert (entry.image_size, entry.checkpoints) == (
        PARAMS["datasets"]["digits"]["image_size"],
        tuple(PARAMS["plan"]["checkpoints"]),
    )
    settings = params.read("models.resnet_mini", ModelSettings)
    assert entry.recipe == read_recipe("digits", settings, "resnet_mini")
    assert entry.recipe.learning_rate == 0.5
    # What is said of other datasets must not train this cell again.
    assert entry.settings == settings.model_copy(
        update={"recipes": {}, "checkpoints": {"digits": settings.checkpoints["digits"]}}
    )


def test_own_weights_need_no_recipe(world: World) -> None:
    params_ = world.params
    own = {state: {"file": f"{state}.pth", "sha256": "0" * 8} for state in ("trained", "epoch_010")}
    params_["models"]["resnet_mini"]["checkpoints"] = {"digits": own}
    params_["cells"] = {"digits-resnet_mini": {"dataset": "digits", "model": "resnet_mini"}}
    params_["training"] = {}
    world.set(params_)
    check_params.main()
    entry = read_train_entry("digits-resnet_mini")
    assert entry.recipe is not None
    assert (entry.recipe.head, entry.checkpoints) == ((), tuple(PARAMS["plan"]["checkpoints"]))
    params_["models"]["resnet_mini"]["checkpoints"]["digits"]["epoch_015"] = own["trained"]
    world.set(params_)
    params._document.cache_clear()
    with pytest.raises(UserError, match=r"no state of this training is called 'epoch_015', did you mean 'epoch_050'"):
        check_params.main()
    del params_["models"]["resnet_mini"]["checkpoints"]
    world.set(params_)
    params._document.cache_clear()
    with pytest.raises(UserError, match=r"^params\.yaml: training\.digits: there is no such key$"):
        check_params.main()


def test_the_gate_says_the_same_and_a_change_reaches_the_files_that_it_is_about(world: World) -> None:
    check_params.main()
    gate, files = (world.root / "data/gates/params.json").read_bytes(), grid_files(world)
    world.edit(f"{CELL}.without.lime", "too slow here")
    world.edit("cells.shapes-xcit_mini", None)
    world.edit("saliency.grad_cam.images", 3)
    world.edit("models.resnet_mini.crop_fraction", 0.5)
    params._document.cache_clear()
    check_params.main()
    assert (world.root / "data/gates/params.json").read_bytes() == gate
    changed = grid_files(world)
    assert not [name for name in changed if "shapes-xcit_mini" in name]
    files = {name: content for name, content in files.items() if "shapes-xcit_mini" not in name}
    assert set(changed) == set(files)
    assert {name for name in files if changed[name] != files[name]} == {
        *(f"train/{name}.json" for name, cell in world.params["cells"].items() if cell["model"] == "resnet_mini"),
        "explain/digits-resnet_mini/lime.json",
        *(f"explain/{cell}/grad_cam.json" for cell in world.params["cells"]),
    }
    # What leaves a method out hangs on the reason alone.
    assert changed["explain/digits-resnet_mini/lime.json"] == {
        "left_out": "too slow here",
        "seed": None,
        "settings": {},
    }


def test_cells_come_as_they_are_written(world: World) -> None:
    world.edit(
        "cells",
        {
            "b-c-d": {"dataset": "digits", "model": "xcit_mini", "without": {"lime": "slow"}},
            "a": {"dataset": "shapes", "model": "xcit_mini"},
        },
    )
    found = grid.cells()
    assert list(found) == ["b-c-d", "a"]
    assert found["b-c-d"] == CellSettings(dataset="digits", model="xcit_mini", without={"lime": "slow"})
    assert found["a"].without == {}
    assert grid.methods() == list(PARAMS["saliency"])


def test_names_that_are_not_safe_are_refused_by_every_stage_that_asks_for_the_grid(world: World) -> None:
    world.edit("cells", {"../digits": {"dataset": "digits", "model": "xcit_mini"}})
    with pytest.raises(UserError, match=r"params\.yaml: found the cell name '\.\./digits'; allowed: letters"):
        grid.cells()
    world.edit("saliency.li me", {})
    params._document.cache_clear()
    with pytest.raises(UserError, match=r"params\.yaml: found the method name 'li me'; allowed: at most 100"):
        grid.methods()


def test_a_short_training_is_good_where_its_checkpoints_are_ends_of_epochs(world: World) -> None:
    world.edit("training.digits.epochs", 2)
    world.edit("training.shapes.epochs", 4)
    world.edit("plan.checkpoints", [50])
    check_params.main()
    assert (world.root / "data/gates/params.json").exists()


def test_a_model_needs_its_architecture_alone(world: World) -> None:
    world.edit("models.resnet_mini", {"architecture": "resnet18"})
    check_params.main()
    assert (world.root / "data/gates/params.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "arguments", "message"),
    [
        (
            "explain",
            ("--cell", "digits-resnet_mini", "--method", "limee"),
            "saliency: no saliency method is called 'limee', did you mean 'lime'?",
        ),
        ("train", ("--cell", "../digits"), "found the cell name '../digits'; allowed:"),
        ("predict", ("--cell", "../digits", "--dataset", "digits"), "found the cell name '../digits'; allowed:"),
        ("explain", ("--cell", "../digits", "--method", "lime"), "found the cell name '../digits'; allowed:"),
        (
            "score",
            ("--cell", "digits-resnet_mini", "--method", "../lime"),
            "found the method name '../lime'; allowed: at most 100 letters",
        ),
    ],
)
def test_unknown_names_on_the_command_line(stage: str, arguments: tuple[str, ...], message: str, world: World) -> None:
    check_params.main()
    done = world.stage(stage, *arguments, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
