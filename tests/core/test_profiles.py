"""Profiles: switching there and back, and the paper's grid without its data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline.core.grid import CellSettings
from pipeline.core.params import check
from pipeline.core.yaml_file import parse_yaml
from pipeline.models.build import check_architecture
from pipeline.models.recipe import ModelSettings
from tests.world import ROOT, World, every_cell

PAPER = yaml.safe_load((ROOT / "profiles/paper.yaml").read_text())


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.start_dvc()
    made.run("git", "add", "params.yaml")
    made.run("git", "-c", "user.name=x", "-c", "user.email=x@y.z", "commit", "-qm", "x")
    return made


@pytest.mark.slow
def test_there_and_back(world: World) -> None:
    default = (world.root / "params.yaml").read_bytes()
    world.stage("profile", "--name", "opti_cam")
    world.stage("check_params")
    assert world.stage("profile", "--name", "paper").stdout.startswith("params.yaml: now profile paper")
    assert world.params == PAPER
    world.stage("check_params")
    world.stage("profile", "--name", "default")
    assert (world.root / "params.yaml").read_bytes() == default


@pytest.mark.slow
def test_changes_that_are_in_no_profile_are_not_lost(world: World) -> None:
    world.edit("plan.images", 9)
    mine = (world.root / "params.yaml").read_bytes()
    done = world.stage("profile", "--name", "paper", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: params.yaml: found changes that are neither committed nor in a profile; commit them"
    )
    assert done.stderr.count("\n") == 1
    assert (world.root / "params.yaml").read_bytes() == mine
    (world.root / "profiles/mine.yaml").write_bytes(mine)
    world.stage("profile", "--name", "paper")
    world.stage("profile", "--name", "mine")
    assert (world.root / "params.yaml").read_bytes() == mine


def test_without_git_nothing_is_overwritten(tmp_path: Path) -> None:
    world = World(tmp_path)
    before = (world.root / "params.yaml").read_bytes()
    done = world.stage("profile", "--name", "paper", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: git has no committed one (")
    assert (world.root / "params.yaml").read_bytes() == before


@pytest.mark.slow
def test_an_unknown_profile_is_one_line(world: World) -> None:
    for stage, option in (("profile", "--name"), ("estimate", "--profile")):
        done = world.stage(stage, option, "papr", check=False)
        assert done.returncode == 1
        assert (
            done.stderr
            == "error: profiles: no profile is called 'papr', did you mean 'paper'? (known: default, opti_cam, paper)\n"
        )


def test_the_blocks_of_the_documentation_fit() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("paper.md", "models.md"))
    models, cells = {}, {}
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        content = parse_yaml(block, "docs/paper.md")
        models |= content.get("models", {})
        cells |= content.get("cells", {})
    assert set(models) >= {"densenet121", "vgg16", "mine", "wrapped"}
    fitting = {name: check(f"models.{name}", ModelSettings, entry) for name, entry in models.items()}
    for name, settings in fitting.items():
        check_architecture(settings.architecture, name)
    assert set(fitting["mine"].checkpoints["my_pictures"]) == {"trained"}
    own = fitting["wrapped"].checkpoints["my_pictures"]
    assert own["epoch_050"].file == "halfway.pth"
    assert own["epoch_050"].prefixes == own["trained"].prefixes == ("module.",)
    assert own["trained"].sha256 is not None
    assert check("cells.mine", CellSettings, cells["my_pictures-mine"]).model == "mine"
    assert all(check(f"cells.{name}", CellSettings, cell) for name, cell in cells.items())


def test_the_papers_counts() -> None:
    assert [len(PAPER[section]) for section in ("datasets", "models", "saliency")] == [5, 13, 7]
    assert PAPER["cells"] == every_cell(PAPER)
    per_image = 1 + 7 * PAPER["plan"]["magnitudes"] + 6 + 1 + len(PAPER["plan"]["checkpoints"])
    few = {"blur_ig", "lime", "smooth_grad"}
    rows = {name: (51 if name in few else 510) * per_image for name in PAPER["saliency"]}
    assert {name: entry["images"] for name, entry in PAPER["saliency"].items()} == {
        name: 51 if name in few else "all" for name in PAPER["saliency"]
    }
    # The paper counts the last epoch among ten checkpoints.
    assert rows["lime"] == 3060 - 51
    assert rows["grad_cam"] == 30600 - 510


@pytest.mark.slow
def test_the_graph_stands_without_any_data(world: World) -> None:
    world.stage("profile", "--name", "paper")
    done = world.run("dvc", "repro", "--dry", "--force").stdout
    ran = re.findall(r"Running stage '(\w+)", done)
    assert ran.count("explain") == ran.count("score") == 5 * 13 * 7
    assert ran.count("train") == ran.count("predict") == 5 * 13
    assert not (world.root / "data").exists() or not any((world.root / "data").rglob("*.parquet"))


@pytest.mark.slow
def test_a_run_without_data_says_which_archive_to_place_where(world: World) -> None:
    world.stage("profile", "--name", "paper")
    content = world.params
    content["datasets"] = {"cub200": content["datasets"]["cub200"] | {"folder": "nowhere/cub200"}}
    content["training"] = {"cub200": content["training"]["cub200"]}
    content["cells"] = every_cell(content)
    for model in content["models"].values():
        model["recipes"] = {name: own for name, own in model.get("recipes", {}).items() if name == "cub200"}
    world.set(content)
    done = world.run("dvc", "repro", check=False)
    assert done.returncode != 0
    line = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: "))
    assert line.startswith(
        "error: nowhere/cub200/CUB_200_2011.tgz: there is no such file, and it could not be downloaded"
    )
    assert "https://data.caltech.edu/records/65de6-vp158" in line
