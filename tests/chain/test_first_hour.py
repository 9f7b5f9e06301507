"""docs/first_hour.md: its commands, as they stand there, in a small copy of the project.

The third way, a method of one's own, is in CONTRIBUTING.md; `test_workspace` follows it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml

from tests.chain.test_workspace import merge
from tests.world import ROOT, World, folder_of_pictures, small_params

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs/first_hour.md").read_text()
CELL = "my_pictures-mine"


def blocks(heading: str, language: str) -> list[str]:
    """Return the code blocks below a heading."""
    section = re.split(r"\n## ", DOCUMENT.split(f"\n## {heading}\n")[1])[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A project with an environment, small settings, and the user's folder of pictures and weights."""
    made = World(tmp_path_factory.mktemp("first_hour"), warm=True)
    shutil.copy(ROOT / "Makefile", made.root)
    programs = made.root / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("python", "dvc"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{Path(sys.executable).parent / name}" "$@"\n')
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f'export PATH="{programs}:$PATH"\n')
    (made.root / ".venv/ready").touch()
    (made.root / "README.md").write_text("Small.\n")
    pictures = folder_of_pictures(made.root / "data/all", per_class=12, classes=("ant", "bee"))
    for number, picture in enumerate(sorted(pictures.glob("*/*.*"))):
        target = made.root / "data/my_pictures" / ("test" if number % 3 == 0 else "train") / picture.parent.name
        target.mkdir(parents=True, exist_ok=True)
        picture.rename(target / picture.name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model("resnet18", num_classes=2).state_dict(), made.root / "mine.pth")
    params = small_params(made, made.root / "data/my_pictures")
    # What is trained and shown elsewhere is left out; the user's cell is added by the document.
    params |= {"datasets": {"photos": made.params["datasets"]["photos"] | {"image_size": 32}}}
    params |= {"models": {"efficientnet_lite0": made.params["models"]["efficientnet_lite0"] | {"recipes": {}}}}
    params |= {"training": {"photos": "none"}}
    cell = {"dataset": "photos", "model": "efficientnet_lite0", "without": {"extremal_perturbation": "too long"}}
    params |= {"cells": {"photos-efficientnet_lite0": cell}}
    params["saliency"]["extremal_perturbation"] = made.params["saliency"]["extremal_perturbation"] | {"images": 2}
    params["plan"] |= {"images": 2, "layers": 1, "transforms": ["rotate", "flip_lr", "brightness"]}
    params["saliency"]["lime"] |= {"images": 1}
    params["faithfulness"] = {}
    params["localisation"] |= {"metrics": [], "box_study": []}
    made.set(params)
    made.start_dvc()
    made.run("git", "add", ".")
    made.run("git", "-c", "user.name=x", "-c", "user.email=x@y.z", "commit", "-qm", "x")
    return made


def follow(world: World, script: str) -> subprocess.CompletedProcess[str]:
    return world.run("bash", "-euc", script, COSE_WARM="1", GIT_AUTHOR_NAME="x", GIT_COMMITTER_NAME="x")


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]


def test_your_photographs_and_your_network(world: World) -> None:
    """Before the other way, which starts where everything has run."""
    (written,) = blocks("Your photographs and your network", "yaml")
    settings = yaml.safe_load(written)
    weights = settings["models"]["mine"]["checkpoints"]["my_pictures"]["trained"]
    known = hashlib.sha256((world.root / "mine.pth").read_bytes()).hexdigest()
    assert weights["sha256"] != known
    world.set(merge(world.params, settings))
    (commands,) = blocks("Your photographs and your network", "bash")
    refused = world.run("bash", "-euc", commands, check=False, COSE_WARM="1")
    assert refused.returncode
    assert f"mine.pth: found SHA-256 {known}" in refused.stdout + refused.stderr
    world.edit("models.mine.checkpoints.my_pictures.trained.sha256", known)
    done = follow(world, commands)
    assert done.stdout.startswith(known)
    of_cell = {stage for stage in ran(done) if "my_pictures" in stage}
    states = json.loads((world.root / f"data/models/{CELL}/states.json").read_text())
    assert known in states["weights_from"]["trained"]
    assert states["computed_by"] is None
    assert {f"score@{CELL}-{method}" for method in ("grad_cam", "lime")} <= of_cell
    assert (world.root / f"metrics/gallery/{CELL}/methods_1.png").exists()
    headline = json.loads((world.root / "metrics/cose.json").read_text())
    assert set(headline["grad_cam"]) == {"photos-efficientnet_lite0", CELL}
    world.run("git", "add", "dvc.lock", "params.yaml", "metrics")
    world.run("git", "-c", "user.name=x", "-c", "user.email=x@y.z", "commit", "-qm", "y")


def test_the_numbers(world: World) -> None:
    there, back = blocks("The numbers", "bash")
    before = {name: (world.root / name).read_bytes() for name in ("params.yaml", "dvc.lock", "metrics/cose.csv")}
    done = follow(world, there)
    recomputed = ran(done)
    assert recomputed
    shared = ("check_params", "gallery", "aggregate")
    assert all("lime" in stage or stage.partition("@")[0] in shared for stage in recomputed)
    assert "grad_cam.my_pictures-mine" in done.stdout
    assert (world.root / "metrics/cose.csv").read_bytes() != before["metrics/cose.csv"]
    assert re.search(r"params\.yaml +saliency\.lime\.samples +\d+ +160\n", done.stdout)
    assert list((world.root / "choices").glob("*chelsea*.png"))
    follow(world, back)
    assert {name: (world.root / name).read_bytes() for name in before} == before
    assert world.repro() == []
