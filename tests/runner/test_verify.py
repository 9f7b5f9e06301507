"""Everything that DVC keeps is read, what is damaged is named with its stage, and mended."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.world import ROOT

OUTS = ", ".join(f'"${{item}}.{number}.txt"' for number in range(1, 7))
GRAPH = f"""
stages:
  files:
    foreach: [a, b, c, d]
    do:
      cmd: for n in 1 2 3 4 5 6; do echo ${{item}} $n > ${{item}}.$n.txt; done; echo x >> ran.log
      deps: [given.txt]
      outs: [{OUTS}]
  folder:
    foreach: [e, f]
    do:
      cmd: mkdir -p out/${{item}} && for n in 1 2 3 4 5 6; do
        echo ${{item}} $n > out/${{item}}/$n.txt; done; echo x >> ran.log
      deps: [given.txt]
      outs: ["out/${{item}}"]
"""
OBJECTS = 4 * 6 + 2 * 7
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "given.txt").write_text("DVC remembers no runs of stages that depend on nothing")
    assert run("dvc", "init", "-q", "--no-scm").returncode == 0
    assert run("dvc", "repro").returncode == 0
    assert len(objects(tmp_path)) == OBJECTS
    return tmp_path


def objects(graph: Path) -> list[Path]:
    return sorted(path for path in (graph / ".dvc/cache/files/md5").glob("??/*"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage(paths: list[Path], rng: random.Random) -> None:
    """Damage files, and leave them as write-protected as DVC trusts them."""
    for path in paths:
        in_folder = path.read_bytes().startswith((b"e", b"f"))  # if its list is damaged too, nothing tells of it
        how: Callable[[Path], None] = rng.choice([truncate, flip] + ([] if in_folder else [Path.unlink]))
        path.chmod(0o644)
        how(path)
        if path.exists():
            path.chmod(0o444)


def contents(graph: Path) -> dict[str, bytes]:
    return {path.relative_to(graph).as_posix(): path.read_bytes() for path in graph.rglob("*.txt")}


def test_what_is_whole_is_said_to_be(graph: Path) -> None:
    done = run("runner.verify")
    assert (done.returncode, done.stdout) == (0, "everything is as it was written\n")


@pytest.mark.parametrize("copies", ["workspace", "remote", "nowhere"])
def test_twenty_damaged_objects_are_named_and_mended(copies: str, graph: Path) -> None:
    if copies == "remote":
        assert run("dvc", "remote", "add", "-d", "far", str(graph / "far")).returncode == 0
        assert run("dvc", "push").returncode == 0
    before, whole = contents(graph), {path: path.read_bytes() for path in objects(graph)}
    rng = random.Random(copies)
    damaged = rng.sample(objects(graph), 20)
    damage(damaged, rng)
    if copies != "workspace":
        for name in before:
            if name != "given.txt":
                (graph / name).unlink()
        run("dvc", "checkout", "--force")  # takes what is damaged for good, and complains of what is missing
    done = run("runner.verify")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: 20 damaged or missing; `make verify REPAIR=1`")
    named = [line for line in done.stdout.splitlines() if any(str(path) in line for path in damaged)]
    assert len(named) == len(done.stdout.splitlines()) == 20
    assert all("made by f" in line or "whose list of files is damaged too" in line for line in named)
    assert sum("made by f" in line for line in named) > 10
    done = run("runner.verify", "--repair")
    assert done.returncode == 0, done.stderr
    ran = (graph / "ran.log").read_text()
    done = run("dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert contents(graph) == before
    assert {path: path.read_bytes() for path in objects(graph)} == whole
    assert run("runner.verify").returncode == 0
    assert ((graph / "ran.log").read_text() == ran) == (copies != "nowhere"), "run again only where nothing was left"


def test_a_damaged_file_of_the_workspace_is_mended_from_the_cache(graph: Path) -> None:
    path = graph / "out/e/3.txt"
    state = path.stat()
    path.write_bytes(b"e 4\n")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    done = run("runner.verify")
    assert "out/e/3.txt: damaged (4 bytes with the MD5 checksum" in done.stdout
    assert "made by folder@e" in done.stdout
    assert run("runner.verify", "--repair").returncode == 0
    assert path.read_bytes() == b"e 3\n"


def test_an_object_of_an_earlier_run_is_named_and_removed(graph: Path) -> None:
    old = graph / ".dvc/cache/files/md5/00/11223344556677889900aabbccddee"
    old.parent.mkdir()
    old.write_bytes(b"old")
    done = run("runner.verify")
    assert "00/11223344556677889900aabbccddee: damaged (3 bytes" in done.stdout
    assert "made by an earlier run" in done.stdout
    assert run("runner.verify", "--repair").returncode == 0
    assert not old.exists()


def test_a_remote_that_is_damaged_too_is_not_believed(graph: Path) -> None:
    assert run("dvc", "remote", "add", "-d", "far", str(graph / "far")).returncode == 0
    assert run("dvc", "push").returncode == 0
    path = graph / "a.1.txt"
    for file in [path, *graph.rglob("??/*"), *(graph / "far").rglob("*")]:
        if file.is_file() and file.read_bytes() == b"a 1\n":
            file.chmod(0o644)
            file.write_bytes(b"a 9\n")
    done = run("runner.verify", "--repair")
    assert "removed; `dvc repro` makes it again" in done.stdout
    assert not path.exists()
    assert run("dvc", "repro").returncode == 0
    assert path.read_bytes() == b"a 1\n"
