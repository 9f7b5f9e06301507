"""Files that are written whole or not at all, whatever kills the process that writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from pipeline.core.documents import read_document
from pipeline.core.errors import UserError
from pipeline.core.files import package_file, read_json, sha256, sweep, whole, write_csv, write_json
from pipeline.core.params import Settings
from tests.world import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_folder(draft: Path) -> None:
    draft.mkdir()
    (draft / "two").write_text("new")


def fail(path: Path, make: Callable[[Path], object], error: type[BaseException] = RuntimeError) -> None:
    with whole(path) as draft:
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
    with whole(folder) as draft:
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
    with pytest.raises(FileNotFoundError), whole(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_nobody_sees_a_part(tmp_path: Path) -> None:
    with whole(tmp_path / "deep" / "a.txt") as draft:
        draft.write_text("half")
        assert not (tmp_path / "deep" / "a.txt").exists()
        assert list(tmp_path.rglob("a.txt")) == [draft]
        draft.write_text("all")
    assert (tmp_path / "deep" / "a.txt").read_text() == "all"


WRITER = """
import sys
from pathlib import Path
from pipeline.core.files import whole
with whole(Path(sys.argv[1])) as draft:
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
        sweep(tmp_path)
        assert list((tmp_path / "deep").iterdir()) == [scratch[".live"]]
        assert (scratch[".live"] / "live" / "part").read_text() == "half"
        live.communicate("")
        assert live.returncode == 0
    assert names(tmp_path / "deep") == ["live"]
    assert names(tmp_path / "deep" / "live") == ["part"]
    sweep(tmp_path)
    assert names(tmp_path / "deep" / "live") == ["part"]


def test_sweeping_spares_everything_else(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "mine.tmp").mkdir()
    (tmp_path / ".note.tmp").write_text("a file")
    (tmp_path / ".gone-1.tmp").mkdir()
    (tmp_path / ".gone-1.tmp" / "part").write_text("half")
    (tmp_path / ".link.tmp").symlink_to(tmp_path / "mine.tmp")
    (tmp_path / "mine.tmp" / "part").write_text("mine")
    sweep(tmp_path, tmp_path / "missing")
    assert names(tmp_path) == [".hidden", ".link.tmp", ".note.tmp", "mine.tmp"]
    assert names(tmp_path / "mine.tmp") == ["part"]


def test_two_roots_are_swept(tmp_path: Path) -> None:
    for root in ("a", "b"):
        (tmp_path / root / "deep" / ".x-1.tmp").mkdir(parents=True)
    sweep(tmp_path / "a", tmp_path / "b")
    assert [names(tmp_path / root / "deep") for root in ("a", "b")] == [[], []]


def test_json_refuses_nan_and_reads_what_it_wrote(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert names(tmp_path) == []
    write_json(tmp_path / "a.json", {"é": [1, 0.5, None]})
    assert read_json(tmp_path / "a.json") == {"é": [1, 0.5, None]}
    assert (tmp_path / "a.json").read_bytes() == '{\n  "é": [\n    1,\n    0.5,\n    null\n  ]\n}\n'.encode()


def test_json_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json: not valid JSON \(") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match=r"a\.json: not valid JSON \("):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b\.json: there is no such file; `dvc repro` makes it"):
        read_json(tmp_path / "b.json")


class Paper(Settings):
    pages: int
    title: str | None = None


class Shelf(Settings):
    papers: dict[str, Paper]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"papers": {"a": {"pages": "3"}}}, "papers.a.pages: found '3'; input should be a valid integer"),
        ({"papers": {"a": {}}}, "papers.a.pages: found {}; field required"),
        ({"papers": {}, "more": 1}, "more: found 1; extra inputs are not permitted"),
        ([1], "found [1]; input should be a valid dictionary or instance of Shelf"),
    ],
)
def test_a_document_that_does_not_fit_is_one_line(content: object, message: str, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", content)
    with pytest.raises(UserError) as caught:
        read_document(tmp_path / "a.json", Shelf)
    where = tmp_path / "a.json"
    assert str(caught.value).lower() == f"{where}: {message}; `dvc repro` makes it again".lower()


def test_a_document_comes_back(tmp_path: Path) -> None:
    shelf = Shelf(papers={"a": Paper(pages=3), "b": Paper(pages=1, title="x")})
    write_json(tmp_path / "a.json", shelf.model_dump())
    assert read_document(tmp_path / "a.json", Shelf) == shelf
    with pytest.raises(UserError, match=r"b\.json: there is no such file; `dvc repro` makes it"):
        read_document(tmp_path / "b.json", Shelf)


def test_tables_for_people(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.array([0.123456789, None], dtype="Float64"), "b": [1, 2], "c": ["x", None]})
    write_csv(tmp_path / "a.csv", frame)
    assert (tmp_path / "a.csv").read_bytes() == b"a,b,c\n0.123457,1,x\n,2,\n"


def test_checksums_and_files_that_come_with_the_code(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert package_file(os.fspath(tmp_path / "module.py"), "a").read_bytes() == b"abc"
