"""After a run that was killed, the same command goes on: nothing to mend by hand, and the same results."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline.core.errors import UserError
from runner import recovery
from runner.graph_values import check_graph_values, check_sources
from runner.recovery import BROKEN, KEPT, LOCK, is_good, mend
from tests.world import ROOT

GRAPH = """
stages:
  one:
    foreach: ${cells}
    do:
      cmd: echo ${key} > ${key}.txt && echo ${key} >> ran.log
      deps: [given.txt]
      outs: ["${key}.txt"]
"""
NAMES = [f"stage_{number:02d}" for number in range(12)]
PARAMS = {
    "seed": 0,
    "plan": {},
    "datasets": {"a": {"loader": "b", "source": "given.txt"}},
    "saliency": {"d": {}},
    "cells": {name: {"dataset": "a"} for name in NAMES},
}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", "COSE_JOBS": "1"}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "given.txt").write_text("DVC remembers no runs of stages that depend on nothing")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*module: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *module, "repro"],
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def repro(*module: str) -> tuple[int, str, str]:
    process = start(*module or ("runner",))
    output, error = process.communicate(timeout=120)
    return process.returncode, output, error


def test_a_broken_lock_file_is_restored_from_the_copy_of_the_last_run(graph: Path) -> None:
    assert repro()[0] == 0
    good = LOCK.read_bytes()
    assert KEPT.read_bytes() == good
    rng = random.Random(0)
    cut = [good[: rng.randrange(1, len(good) - 1)] for _ in range(20)]
    broken = [one for one in cut if not is_good(one)] + [b"stages: [", b"\xff", b"schema: '2.0'\nstages: 3\n"]
    assert len(broken) > 10
    for content in broken:
        LOCK.write_bytes(content)
        mend()
        assert LOCK.read_bytes() == good
        assert BROKEN.read_bytes() == content
    LOCK.write_bytes(broken[-2])
    code, output, error = repro()
    assert code == 0, error
    assert "up to date" in output
    assert f"note: {LOCK}: a killed run left it broken; restored the copy of the last run ({BROKEN} has" in error
    assert len((graph / "ran.log").read_text().split()) == len(NAMES)


def test_without_a_copy_the_committed_one_is_taken_and_else_none(graph: Path) -> None:
    assert repro("dvc")[0] == 0
    good = LOCK.read_bytes()
    assert not KEPT.exists()
    LOCK.write_bytes(b"schema: '2.0'\nstages: {one: {}}\n")
    code, _, error = repro()
    assert code == 0
    assert "there is no good copy" in error
    assert LOCK.read_bytes() == good, "DVC's run cache knows what has run"
    assert len((graph / "ran.log").read_text().split()) == len(NAMES)
    KEPT.unlink()
    for command in ("add dvc.lock", "-c user.name=a -c user.email=a commit -qm a"):
        subprocess.run(["git", *command.split()], check=True)
    LOCK.write_bytes(b"schema: '2.0'\nstages: {one: {}}\n")
    code, _, error = repro()
    assert code == 0
    assert "restored the committed one" in error
    assert LOCK.read_bytes() == good


def test_a_broken_list_of_locks_is_removed(graph: Path) -> None:
    recovery.RWLOCK.write_text('{"read": {"')
    code, _, error = repro()
    assert code == 0
    assert f"note: {recovery.RWLOCK}: removed what a killed run left of it" in error


def test_what_is_good_is_left_alone(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mend()
    assert not LOCK.exists()
    assert repro()[0] == 0
    before = LOCK.stat()
    mend()
    assert LOCK.stat() == before
    KEPT.unlink()
    mend()
    assert KEPT.read_bytes() == LOCK.read_bytes()
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["runner", "dvc"])
def test_a_run_killed_at_any_moment_goes_on_with_the_same_command(module: str, graph: Path) -> None:
    assert repro("dvc")[0] == 0
    good = LOCK.read_bytes()
    rng = random.Random(module)
    for number in range(3):
        LOCK.unlink(missing_ok=True)
        KEPT.unlink(missing_ok=True)
        (graph / "given.txt").write_text(f"turn {number}")
        process = start(module)
        time.sleep(rng.uniform(0.7, 3.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        code, _, error = repro()
        assert code == 0, error
        assert {name for name in NAMES if (graph / f"{name}.txt").exists()} == set(NAMES)
        code, output, _ = repro()
        assert code == 0
        assert "Running stage" not in output
        assert not list(graph.glob(f"**/*{recovery.UNFINISHED}"))
    (graph / "given.txt").write_text("DVC remembers no runs of stages that depend on nothing")
    assert repro()[0] == 0
    assert LOCK.read_bytes() == good


BAD = {
    "seed: 0\nplan: {}\nsaliency: {a: {}}\ncells: {a: {dataset: b}}\ndatasets: {a: {loader: b, source: null}}\n": (
        "datasets.a.source: found None; allowed: printable text without quotes"
    ),
    "seed: 0\nplan: {}\nsaliency: {a: {}}\ncells: {a: {dataset: b}}\ndatasets: null\n": (
        "datasets: found None; allowed: a mapping with at least one entry"
    ),
    "seed: 0\nplan: {}\nsaliency: null\ncells: {a: {dataset: b}}\ndatasets: {a: {loader: b, source: c}}\n": (
        "saliency: found None; allowed: a mapping with at least one entry"
    ),
    "seed: 0\nplan: {}\nsaliency: {a: {}}\ncells: {a: null}\ndatasets: {a: {loader: b, source: c}}\n": (
        "cells.a: found None; allowed: a mapping"
    ),
    "seed: 0\nplan: {}\nsaliency: {a b: {}}\ncells: {a: {dataset: b}}\ndatasets: {a: {loader: b, source: c}}\n": (
        "found the method name 'a b'; allowed: at most 100 letters, digits and _"
    ),
    'seed: 0\nplan: {}\nsaliency: {a: {}}\ncells: {a: {dataset: b}}\ndatasets: {a: {loader: b, source: "c\'d"}}\n': (
        'datasets.a.source: found "c\'d"; allowed: printable text without quotes'
    ),
    "plan: {}\nsaliency: {a: {}}\ncells: {a: {dataset: b}}\ndatasets: {a: {loader: b, source: c}}\n": (
        "seed: missing; it has no default"
    ),
}


@pytest.mark.parametrize("text", BAD)
def test_what_dvc_cannot_make_stages_of_is_our_line(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        check_graph_values()
    assert str(caught.value) == f"params.yaml: {BAD[text]}"


def test_a_source_that_is_not_there_is_our_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "datasets: {a: {source: b}, spare: {source: nowhere}}\ncells: {c: {dataset: a}}\n"
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        check_sources()
    assert str(caught.value) == "params.yaml: datasets.a.source: found 'b'; there is no such file or folder"
    (tmp_path / "b").mkdir()
    check_sources()


def test_params_that_dvc_would_stumble_over_end_the_run_first(graph: Path) -> None:
    for text in (
        "seed: 1\nseed: 2\n",
        "seed: [" * 5000,
        "seed: " + "9" * 5000,
        "seed: 2001-99-99\n",
        "seed: &a [*a]\n",
    ):
        (graph / "params.yaml").write_text(text)
        code, output, error = repro()
        assert (code, output) == (1, "")
        assert error.startswith("error: params.yaml")
        assert error.count("\n") == 1
    (graph / "params.yaml").unlink()
    (graph / "params.yaml").mkdir()
    code, _, error = repro()
    assert (code, error) == (1, "error: params.yaml: found a folder; allowed: a YAML file\n")
