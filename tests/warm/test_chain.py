"""The project's own stages, warm and cold: the same files to the last bit, whoever runs them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.warm.conftest import eventually, pytestmark  # noqa: F401
from tests.world import World, folder_of_pictures, small_params

# Says at the first line of a stage's own work what it had to import that was not there when it was forked.
WATCH = """
import os, sys

def forked():
    global before
    before = set(sys.modules)

def note(event, _):
    if event == "cose.stage" and "before" in globals():
        own = ("stages", "pipeline", "warm")
        new = {name for name in set(sys.modules) - before if name.split(".")[0] not in own}
        with open(os.environ["WATCH_LOG"], "a") as file:
            print(os.path.basename(sys.argv[0]), len(os.listdir("/proc/self/task")), *sorted(new), file=file)

os.register_at_fork(after_in_child=forked)
sys.addaudithook(note)
"""


LATE = {"pydantic.plugin._loader"}
"""What the first class of settings loads; nothing that takes time."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("warm"))
    made.set(small_params(made, folder_of_pictures(made.root / "pictures", per_class=10)))
    with tempfile.TemporaryDirectory(prefix="warm", dir="/tmp") as sockets, pytest.MonkeyPatch.context() as patch:
        (Path(sockets) / "sitecustomize.py").write_text(WATCH)
        patch.setenv("XDG_RUNTIME_DIR", sockets)
        patch.setenv("PYTHONPATH", sockets)
        patch.setenv("WATCH_LOG", f"{sockets}/log")
        made.start_dvc()
        made.run("git", "add", "-A")
        made.run("git", "-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "-qm", "start")
        yield made
        made.run(sys.executable, "-m", "warm", "stop")
        assert not any(Path(f"{sockets}/cose-{os.getuid()}").iterdir())


def files(world: World) -> dict[str, str]:
    folders = [*(world.root / "data").rglob("*"), *(world.root / "metrics").rglob("*"), world.root / "dvc.lock"]
    return {
        str(file.relative_to(world.root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folders
        if file.is_file()
    }


def forget(world: World) -> None:
    for name in ("data", "metrics", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(world.root / name, ignore_errors=True)
    (world.root / "dvc.lock").unlink(missing_ok=True)


def log() -> list[list[str]]:
    file = Path(os.environ["WATCH_LOG"])
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def preload(world: World) -> None:
    """Have a preloaded interpreter for the stages to come."""
    world.stage("fingerprint")  # starts one where there is none
    eventually(lambda: "loaded in" in world.run(sys.executable, "-m", "warm", "status").stdout, 60)


@pytest.mark.slow
def test_warm_and_cold_are_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = world.repro()
    cold = files(world)
    assert len(cold) > 30
    assert log() == []

    monkeypatch.setenv("COSE_WARM", "1")
    preload(world)
    forget(world)
    assert world.repro() == ran
    assert files(world) == cold

    # Every stage was forked, from one thread, and had nothing of others to import.
    lines = log()
    assert len(lines) == len(ran)
    assert {line[0] for line in lines} == {
        f"{name}.py"
        for name in (
            "fingerprint",
            "check_params",
            "prepare",
            "train",
            "predict",
            "explain",
            "score",
            "faithfulness_limits",
            "faithfulness",
            "objects",
            "localisation",
            "gallery",
            "aggregate",
        )
    }
    assert [line for line in lines if line[1] != "1" or not set(line[2:]) <= LATE] == []


@pytest.mark.slow
def test_an_experiment_and_a_command_of_ones_own_are_warm_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_WARM", "1")
    preload(world)
    world.repro()
    before, known = len(log()), files(world)
    world.run("dvc", "exp", "run", "--name", "fewer", "-S", "statistics.resamples=123")
    assert yaml.safe_load((world.root / "params.yaml").read_text())["statistics"]["resamples"] == 123
    assert [line[0] for line in log()[before:]] == ["check_params.py", "aggregate.py"]
    assert "fewer" in world.run("dvc", "exp", "list", "--name-only").stdout
    scores = next(name for name in known if name.startswith("data/scores/") and name.endswith(".parquet"))
    (world.root / scores).unlink()
    world.stage("score", "--cell", "pictures-resnet_mini", "--method", Path(scores).parts[3])
    assert [line[0] for line in log()[before + 2 :]] == ["score.py"]
    assert files(world)[scores] == known[scores]
