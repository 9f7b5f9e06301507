"""JSON and CSV files, documents that have to fit, and files that come with the code."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from pipeline.core.documents import read_document
from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED, check_sha256, package_file, read_json, sha256, write_csv, write_json
from pipeline.core.params import Settings


def test_json_refuses_nan_and_reads_what_it_wrote(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []
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
        ({"papers": {"a": {"pages": "3"}}}, "papers.a.pages: found '3'; allowed: a whole number"),
        ({"papers": {"a": {}}}, "papers.a.pages: missing"),
        ({"papers": {}, "more": 1}, "more: found 1; allowed: no further keys"),
        ([1], "found [1]; allowed: a mapping"),
    ],
)
def test_a_document_that_does_not_fit_is_one_line(content: object, message: str, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", content)
    with pytest.raises(UserError) as caught:
        read_document(tmp_path / "a.json", Shelf)
    where = tmp_path / "a.json"
    assert str(caught.value).lower() == f"{where}: {message}; {DAMAGED}".lower()


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
    check_sha256(tmp_path / "a", sha256(tmp_path / "a"))
    with pytest.raises(UserError, match=r"/a: found a file with the SHA-256 ba7816bf8f01cfea… where 0{16}…"):
        check_sha256(tmp_path / "a", "0" * 64)
    with pytest.raises(UserError, match="/b: there is no such file"):
        check_sha256(tmp_path / "b", "0" * 64)
    assert package_file(os.fspath(tmp_path / "module.py"), "a").read_bytes() == b"abc"
