"""Files and folders are written whole or not at all, whatever kills the process that writes them."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.files import DATA, DEPTH, GRID, METRICS, atomic_write, remove_leftovers
from pipeline.data.prepared import PLAN, prepared_file
from pipeline.metrics.scores import scores_folder
from pipeline.models.cell import cell_folder
from pipeline.models.trained import model_folder
from pipeline.models.training_metrics import training_metrics_file
from pipeline.results.summary import COSE, summary_file
from pipeline.saliency.explanations import explanations_folder
from tests.world import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_folder(draft: Path) -> None:
    draft.mkdir()
    (draft / "two").write_text("new")


def fail(path: Path, make: Callable[[Path], object], error: type[BaseException] | BaseException = RuntimeError) -> None:
    with atomic_write(path) as draft:
        make(draft)
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_the_old_content_stays_when_the_block_fails(error: type[BaseException], tmp_path: Path) -> None:
    file, folder = tmp_path / "a.txt", tmp_path / "b"
    file.write_text("old")
    folder.mkdir()
    (folder / "one").write_text("old")
    with pytest.raises(error):
        fail(file, lambda draft: draft.write_text("new"), error)
    with pytest.raises(error):
        fail(folder, make_folder, error)
    assert file.read_text() == "old"
    assert names(folder) == ["one"]
    assert names(tmp_path) == ["a.txt", "b"]
    with atomic_write(folder) as draft:
        make_folder(draft)
    assert names(folder) == ["two"]
    assert names(tmp_path) == ["a.txt", "b"]


def test_a_block_that_fails_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail(tmp_path / "new", make_folder)
    with pytest.raises(RuntimeError):
        fail(tmp_path / "new.txt", lambda draft: None)  # before anything is written
    assert names(tmp_path) == []


def test_a_block_that_writes_nothing_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_nobody_sees_a_part(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "deep" / "a.txt") as draft:
        draft.write_text("half")
        assert not (tmp_path / "deep" / "a.txt").exists()
        assert list(tmp_path.rglob("a.txt")) == [draft]
        draft.write_text("all")
    assert (tmp_path / "deep" / "a.txt").read_text() == "all"


WRITER = """
import sys
from pathlib import Path
from pipeline.core.files import atomic_write
with atomic_write(Path(sys.argv[1])) as draft:
    draft.mkdir()
    (draft / "part").write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process write a folder until it is killed, or until its input ends."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()


def test_what_a_killed_process_leaves_is_swept_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with writing(tmp_path / "deep" / "killed") as killed, writing(tmp_path / "deep" / "live") as live:
        scratch = {path.name.split("-")[0]: path for path in (tmp_path / "deep").iterdir()}
        assert set(scratch) == {".killed", ".live"}
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert scratch[".killed"].is_dir(), "a killed process cleans up nothing"
        remove_leftovers(tmp_path)
        assert list((tmp_path / "deep").iterdir()) == [scratch[".live"]]
        assert (scratch[".live"] / "new" / "live" / "part").read_text() == "half"
        live.communicate("")
        assert live.returncode == 0
    assert names(tmp_path / "deep") == ["live"]
    assert names(tmp_path / "deep" / "live") == ["part"]
    remove_leftovers(tmp_path)
    assert names(tmp_path / "deep" / "live") == ["part"]


def test_sweeping_spares_everything_else(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "mine.tmp").mkdir()
    (tmp_path / ".note.tmp").write_text("a file")
    (tmp_path / ".gone-1.tmp").mkdir()
    (tmp_path / ".gone-1.tmp" / "part").write_text("half")
    (tmp_path / ".link.tmp").symlink_to(tmp_path / "mine.tmp")
    (tmp_path / "mine.tmp" / "part").write_text("mine")
    remove_leftovers(tmp_path, tmp_path / "missing")
    assert names(tmp_path) == [".hidden", ".link.tmp", ".note.tmp", "mine.tmp"]
    assert names(tmp_path / "mine.tmp") == ["part"]


def test_two_roots_are_swept(tmp_path: Path) -> None:
    for root in ("a", "b"):
        (tmp_path / root / "deep" / ".x-1.tmp").mkdir(parents=True)
    remove_leftovers(tmp_path / "a", tmp_path / "b")
    assert [names(tmp_path / root / "deep") for root in ("a", "b")] == [[], []]


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_a_scratch_folder_that_is_swept_away_at_once_is_made_again(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    module, name = (tempfile, "mkdtemp") if moment == "before it is opened" else (os, "open")
    original = getattr(module, name)

    def swept_away(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if module is os and Path(arguments[0]).name != "lock":
            return result  # what removing a folder opens
        made.append(str(Path(arguments[0]).parent if module is os else result))
        if len(made) == 1:
            shutil.rmtree(made[0])
        return result

    monkeypatch.setattr(module, name, swept_away)
    with atomic_write(tmp_path / "a.txt") as draft:
        monkeypatch.undo()
        draft.write_text("new")
        remove_leftovers(tmp_path)
    assert len(set(made)) == 2
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["old", "new", "previous", "lock"])
def test_an_artifact_may_be_called_anything(name: str, tmp_path: Path) -> None:
    for _ in range(2):
        with atomic_write(tmp_path / name) as draft:
            make_folder(draft)
    assert names(tmp_path) == [name]
    assert names(tmp_path / name) == ["two"]


def test_the_old_content_comes_back_when_the_new_cannot_be_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_write(tmp_path / "a") as draft:
        make_folder(draft)
    original = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.parent.name == "new":
            raise OSError(errno.EIO, "input/output error")
        return original(self, target)

    with pytest.raises(OSError, match="input/output error"), atomic_write(tmp_path / "a") as draft:
        draft.mkdir()
        monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.undo()
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["two"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.txt: the disk is full \(.* GB are free\); allowed: one with room$"):
        fail(tmp_path / "a.txt", make_folder, OSError(errno.ENOSPC, "no space left on device"))
    assert names(tmp_path) == []


def test_whatever_stages_write_lies_where_it_is_swept() -> None:
    paths = [
        prepared_file("a", PLAN),
        model_folder("a"),
        cell_folder("a"),
        training_metrics_file("a"),
        explanations_folder("a", "b"),
        scores_folder("a", "b"),
        summary_file(COSE),
        GRID,
    ]
    for path in paths:
        assert path.parts[0] in (DATA.name, METRICS.name)
        assert len(path.parts) - 2 <= DEPTH


def test_sweeping_does_not_go_deeper(tmp_path: Path) -> None:
    depths = {depth: tmp_path.joinpath(*"abcdefg"[:depth], ".x-1.tmp") for depth in range(6)}
    for folder in depths.values():
        folder.mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert {depth for depth, folder in depths.items() if folder.exists()} == set(range(DEPTH + 1, 6))
