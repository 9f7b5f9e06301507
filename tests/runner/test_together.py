"""Several stages at once: as many as asked for, none before what it depends on, and DVC's own records of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from runner import together
from tests.world import ROOT

GRAPH = """
stages:
  first:
    cmd: python step.py first
    deps: [step.py]
    outs: [out/first]
  middle:
    matrix: {name: [a, b, c, d]}
    cmd: python step.py ${item.name}
    deps: [out/first]
    outs: ["out/${item.name}"]
  after:
    cmd: python step.py after
    deps: [out/a]
    outs: [out/after]
  last:
    cmd: python step.py last
    deps: [out/after, out/a, out/b, out/c, out/d]
    outs: [out/last]
"""
STEP = """
import os, sys, time
from pathlib import Path

name = sys.argv[1]

def log(what):
    with open("log", "a") as file:
        file.write(f"{what} {name} {os.environ.get('COSE_THREADS')}\\n")

log("start")
if Path("meet").exists() and name in "ab":  # each waits for the other
    Path(f"{name} is here").touch()
    for _ in range(1000):
        if Path("a is here").exists() and Path("b is here").exists():
            break
        time.sleep(0.02)
    else:
        sys.exit("nobody came")
time.sleep(0.1)
if Path(f"{name} waits").exists():
    time.sleep(60)
if Path(f"{name} fails").exists():
    sys.exit(3)
Path(f"out/{name}").write_text(name)
log("end")
"""
NAMES = ("first", "a", "b", "c", "d", "after", "last")
UPSTREAM = {"a": {"first"}, "b": {"first"}, "c": {"first"}, "d": {"first"}, "after": {"a"}, "last": set("abcd")}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(GRAPH.replace("python", sys.executable))
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "out").mkdir()
    dvc(tmp_path, "init", "-q", "--no-scm")
    return tmp_path


def environment(jobs: int) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name != "COSE_THREADS"}
    return plain | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", "COSE_JOBS": str(jobs)}


def dvc(graph: Path, *command: str, program: str = "dvc", jobs: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", program, *command], cwd=graph, env=environment(jobs), capture_output=True, text=True
    )


def repro(graph: Path, *options: str, jobs: int = 3) -> subprocess.CompletedProcess[str]:
    return dvc(graph, "repro", *options, program="runner", jobs=jobs)


def events(graph: Path) -> Iterator[tuple[str, str]]:
    for line in (graph / "log").read_text().splitlines():
        what, name, _ = line.split()
        yield what, name


def most_at_once(graph: Path) -> int:
    """Return how many ran at once at most, after looking that none started too early."""
    running: set[str] = set()
    ended: set[str] = set()
    most = 0
    for what, name in events(graph):
        if what == "start":
            assert UPSTREAM.get(name, set()) <= ended, f"{name} started before what it depends on had ended"
            running.add(name)
            most = max(most, len(running))
        else:
            running.remove(name)
            ended.add(name)
    assert not running
    return most


def locked(graph: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((graph / "dvc.lock").read_text())["stages"]
    return found


def test_stages_run_at_the_same_time_and_dvc_knows_of_them(graph: Path) -> None:
    (graph / "meet").touch()
    done = repro(graph, jobs=2)
    assert done.returncode == 0, done.stderr
    assert most_at_once(graph) == 2
    ours = locked(graph)
    assert len(ours) == len(NAMES)
    for program in ("dvc", "runner"):
        assert "up to date" in dvc(graph, "repro", program=program).stdout
    (graph / "dvc.lock").unlink()
    (graph / "meet").unlink()
    dvc(graph, "repro", "--force")
    assert locked(graph) == ours


@pytest.mark.parametrize("jobs", [1, 3])
def test_no_more_than_asked_for(jobs: int, graph: Path) -> None:
    done = repro(graph, jobs=jobs)
    assert done.returncode == 0, done.stderr
    assert sorted(name for what, name in events(graph) if what == "end") == sorted(NAMES)
    assert most_at_once(graph) <= jobs


def test_the_longest_way_comes_first(graph: Path) -> None:
    # DVC's order of the four depends on the last stage's list; two stages follow a, and one follows the others.
    assert repro(graph, jobs=2).returncode == 0
    started = [name for what, name in events(graph) if what == "start"]
    assert started[0] == "first"
    assert "a" in started[1:3]


def test_the_cores_are_shared_out(graph: Path) -> None:
    assert repro(graph, jobs=2).returncode == 0
    assert {line.split()[2] for line in (graph / "log").read_text().splitlines()} == {
        str(max(1, together.cores() // 2))
    }


def test_a_failed_stage_ends_the_run_when_the_others_have_ended(graph: Path) -> None:
    for name in ("meet", "b fails"):
        (graph / name).touch()
    done = repro(graph, jobs=2)
    assert done.returncode == 255
    assert "failed to reproduce 'middle@b'" in done.stderr
    names = {name for _, name in events(graph)}
    assert names <= {"first", "a", "b", "after", "c"}, "nothing starts after a failure"
    assert set(locked(graph)) >= {"first", "middle@a"}
    for name in ("meet", "b fails"):
        (graph / name).unlink()
    (graph / "log").unlink()
    assert repro(graph, jobs=2).returncode == 0
    assert not {name for _, name in events(graph)} & {"first", "a"}, "what had ended does not run again"
    assert len(locked(graph)) == len(NAMES)


def test_keep_going_runs_what_does_not_depend_on_the_failed_stage(graph: Path) -> None:
    (graph / "a fails").touch()
    done = repro(graph, "--keep-going")
    assert done.returncode == 255
    assert "failed to reproduce 'middle@a'" in done.stderr
    assert {name for what, name in events(graph) if what == "end"} == {"first", "b", "c", "d"}
    assert set(locked(graph)) == {"first", "middle@b", "middle@c", "middle@d"}


def test_options_of_dvc_mean_what_they_mean(graph: Path) -> None:
    assert repro(graph).returncode == 0
    (graph / "log").unlink()
    assert repro(graph, "after", "--force").returncode == 0
    assert {name for _, name in events(graph)} == {"first", "a", "after"}
    (graph / "log").unlink()
    assert repro(graph, "middle@d", "--downstream", "--force").returncode == 0
    assert {name for _, name in events(graph)} == {"d", "last"}
    (graph / "log").unlink()
    assert repro(graph, "middle@c", "--single-item", "--force").returncode == 0
    assert {name for _, name in events(graph)} == {"c"}
    (graph / "log").unlink()
    (graph / "step.py").write_text(STEP + "\n")
    assert repro(graph, "--dry").returncode == 0
    assert not (graph / "log").exists()
    assert repro(graph, "--force-downstream").returncode == 0
    assert {name for _, name in events(graph)} == set(NAMES)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_loses_nothing(number: signal.Signals, graph: Path) -> None:
    for name in ("c", "b"):
        (graph / f"{name} waits").touch()
    running = subprocess.Popen(
        [sys.executable, "-m", "runner", "repro"], cwd=graph, env=environment(3), start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (started := _started(graph)) or {*started} != set(NAMES) - {"last"}:
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)  # Ctrl-C reaches the whole group
        assert running.wait(timeout=20) == (255 if number == signal.SIGINT else -number)
        # Two wait, and all others have had the third place, one after the other.
        ended = [name for name in started if name not in "bc"][:-1]
        assert {name.removeprefix("middle@") for name in locked(graph)} >= {*ended}
    finally:
        if running.poll() is None or number != signal.SIGINT:
            os.killpg(running.pid, signal.SIGKILL)
    for name in ("c", "b"):
        (graph / f"{name} waits").unlink()
    again = repro(graph)
    assert again.returncode == 0, again.stderr
    assert [name for what, name in events(graph) if what == "end"].count("a") == 1


def _started(graph: Path) -> list[str]:
    return [name for what, name in events(graph) if what == "start"] if (graph / "log").exists() else []


@pytest.mark.parametrize("text", ["two", "0", "-1", "²", "9" * 5000], ids=lambda text: text[:9])
def test_a_number_that_is_none_is_refused(text: str, graph: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "repro"],
        cwd=graph,
        env=environment(1) | {"COSE_JOBS": text},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: environment variable COSE_JOBS: found {text[:40]!r}; allowed: a whole number from 1 to 9999\n"
    )
    assert not (graph / "log").exists()


@pytest.mark.parametrize(
    ("cores", "gigabytes", "variables", "expected"),
    [
        (1, 64, {}, 1),
        (2, 24, {}, 2),
        (16, 64, {}, 4),
        (8, 8, {}, 2),
        (8, 1, {}, 1),
        (8, 64, {"COSE_JOBS": "6"}, 6),
        (8, 64, {"COSE_DEVICE": "cuda:1"}, 1),
        (8, 64, {"COSE_DEVICE": "cuda", "COSE_JOBS": "2"}, 2),
    ],
)
def test_what_suits_a_machine(cores, gigabytes, variables, expected, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("COSE_JOBS", raising=False)
    monkeypatch.setenv("COSE_DEVICE", "cpu")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(together, "cores", lambda: cores)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gigabytes * 2**30 // 4096}
    monkeypatch.setattr(together.os, "sysconf", sizes.__getitem__)
    assert together.jobs() == expected
