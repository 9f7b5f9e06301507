"""dvc.lock written for many stages at once: the same file in the end, whatever ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from runner import lock
from runner.lock import Collected
from tests.world import ROOT

GRAPH = """
stages:
  one:
    matrix: {name: [a, b, c, d]}
    cmd: echo ${item.name} > ${item.name}.txt && echo ${item.name} >> ran.log
    deps: [given.txt]
    outs: ["${item.name}.txt"]
  all:
    cmd: sh last.sh
    deps: [a.txt, b.txt, c.txt, d.txt, last.sh]
    outs: [all.txt]
"""
LAST = "cat a.txt b.txt c.txt d.txt > all.txt"
RARELY = (
    "import sys; from dvc.cli import main; from runner.lock import collected\nwith collected(1e-9): sys.exit(main())"
)
"""Writes after the first stage and at the end alone."""
COMMANDS = {
    "dvc": (sys.executable, "-m", "dvc", "repro"),
    "runner": (sys.executable, "-m", "runner", "repro"),
    "rarely": (sys.executable, "-c", RARELY, "repro"),
}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", "COSE_JOBS": "1"}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "last.sh").write_text(LAST)
    (tmp_path / "given.txt").write_text("DVC remembers no runs of stages that depend on nothing")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, env=ENVIRONMENT, check=True)
    return tmp_path


def repro(graph: Path, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMANDS[command], *options], cwd=graph, env=ENVIRONMENT, capture_output=True, text=True)


def locked(graph: Path) -> set[str]:
    file = graph / "dvc.lock"
    return set(yaml.safe_load(file.read_text())["stages"]) if file.exists() else set()


def ran(graph: Path) -> list[str]:
    return (graph / "ran.log").read_text().split()


@pytest.mark.parametrize("command", ["runner", "rarely"])
def test_the_lock_file_is_dvcs_own_to_the_byte(command: str, graph: Path) -> None:
    done = repro(graph, command)
    assert done.returncode == 0, done.stderr
    written = (graph / "dvc.lock").read_bytes()
    assert len(locked(graph)) == 5
    (graph / "dvc.lock").unlink()
    assert repro(graph, "dvc").returncode == 0
    assert (graph / "dvc.lock").read_bytes() == written
    assert ran(graph) == ["a", "b", "c", "d"]
    assert "up to date" in repro(graph, command).stdout


@pytest.mark.parametrize("options", [(), ("--keep-going",), ("--no-commit",)])
def test_what_finished_before_a_stage_failed_is_in_the_lock_file(options: tuple[str, ...], graph: Path) -> None:
    (graph / "last.sh").write_text("exit 3")
    done = repro(graph, "rarely", *options)
    assert done.returncode == 255
    assert "failed to run: sh last.sh" in done.stderr
    assert locked(graph) == {f"one@{name}" for name in "abcd"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_finished_before_a_signal_does_not_run_again(number: signal.Signals, graph: Path) -> None:
    (graph / "last.sh").write_text("touch started && exec sleep 30")
    running = subprocess.Popen(COMMANDS["rarely"], cwd=graph, env=ENVIRONMENT, start_new_session=True)
    try:
        while not (graph / "started").exists():
            assert running.poll() is None
            time.sleep(0.02)
        assert locked(graph) == {"one@a"}, "the others are to be written together"
        # Ctrl-C reaches the whole group, the others DVC alone.
        (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)
        assert running.wait(timeout=10) == (255 if number == signal.SIGINT else -number)
    finally:
        if running.poll() is None or number != signal.SIGINT:
            os.killpg(running.pid, signal.SIGKILL)
    if number != signal.SIGKILL:
        assert locked(graph) == {f"one@{name}" for name in "abcd"}
    # The lock file of a killed run lacks three stages; DVC's run cache has them.
    (graph / "last.sh").write_text(LAST)
    again = repro(graph, "dvc")
    assert again.returncode == 0, again.stderr
    assert ran(graph) == ["a", "b", "c", "d"]
    assert len(locked(graph)) == 5


class File:
    """What is used of a lock file of DVC's, in a repository that is locked."""

    def __init__(self, path: str) -> None:
        self.path, self.repo = path, SimpleNamespace(lock=SimpleNamespace(is_locked=True))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(lock.time, "monotonic", lambda: now[0])
    return now


def test_a_tenth_of_the_time_goes_into_writing(clock: list[float]) -> None:
    written: list[tuple[str, list[Any]]] = []

    def write(file: Any, stages: list[Any]) -> None:
        written.append((file.path, list(stages)))
        clock[0] += 2

    stages = Collected(write, share=0.1)
    for number in range(100):
        stages.add(File("dvc.lock"), [number])  # type: ignore[arg-type, list-item]
        clock[0] += 1
    # A write of two seconds is followed by eighteen without.
    assert [len(found) for _, found in written] == [1, *[18] * 5]
    stages.add(File("other/dvc.lock"), ["other"])  # type: ignore[arg-type, list-item]
    assert written[-1] == ("other/dvc.lock", ["other"])
    stages.flush()
    assert [number for path, found in written if path == "dvc.lock" for number in found] == list(range(100))
    assert not stages.waiting
    stages.flush()
    assert len(written) == 8


def test_small_lock_files_are_written_after_every_stage(clock: list[float]) -> None:
    written = []

    def write(file: Any, stages: list[Any]) -> None:
        written.extend(stages)
        clock[0] += 0.05

    stages = Collected(write, share=0.1)
    for number in range(5):
        stages.add(File("dvc.lock"), [number])  # type: ignore[arg-type, list-item]
        assert written[-1] == number
        clock[0] += 0.5


def test_what_dvc_writes_with_options_is_written_at_once_and_in_order(clock: list[float]) -> None:
    written = []

    def write(file: Any, stages: list[Any], **options: Any) -> None:
        written.append((list(stages), options))
        clock[0] += 1

    stages = Collected(write, share=0.01)
    for names, options in ((["a"], {}), (["b"], {}), (["c"], {"with_files": True})):
        stages.add(File("dvc.lock"), names, **options)  # type: ignore[arg-type]
    assert written == [(["a"], {}), (["b"], {}), (["c"], {"with_files": True})]


DISTURBED = """
import os, signal, sys, threading, time
from pathlib import Path
from tests.runner.test_lock import File
from runner.lock import Collected, flushed_at_sigterm

def write(file, stages):
    Path("lock").write_text("")
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(0.2)  # in which a handler would run
    Path("lock").write_text(" ".join(stages))

# Signals go to any thread; a progress bar's would get those that the main thread does not take.
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
stages = Collected(write, share=0.1)
with flushed_at_sigterm(stages):
    stages.add(File("dvc.lock"), ["a", "b"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_does_not_disturb_a_write(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DISTURBED, str(int(number))]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == -number, done.stderr
    assert (tmp_path / "lock").read_text() == "a b"


def test_other_commands_write_as_always(graph: Path) -> None:
    assert repro(graph, "dvc").returncode == 0
    script = """
from dvc.repo import Repo
from runner.lock import collected
repo = Repo()
with collected(1e-9), repo.lock:
    stages = [stage for stage in repo.index.stages if stage.name != "all"]
    open("dvc.lock", "w").close()
    for stage in stages:
        stage.dump(update_pipeline=False)
"""
    subprocess.run([sys.executable, "-c", script], cwd=graph, env=ENVIRONMENT, check=True)
    assert locked(graph) == {f"one@{name}" for name in "abcd"}
