"""Tables on disk: what is written comes back, and what breaks a declaration is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.expectations import Validator
from pipeline.storage import read_json, whole, write_json
from pipeline.tables import TABLES, check, read, write

VALUES: dict[str, Callable[[int], Any]] = {
    "int64": lambda i: i,
    "float64": lambda i: i / 10,
    "string": lambda i: f"name {i}",
    "bool": lambda i: bool(i % 2),
    "binary": lambda i: bytes([i]),
}


def example(name: str, rows: int = 4) -> pd.DataFrame:
    """Return a valid table: values made from the declaration."""
    if name == "plan":
        return pd.DataFrame(
            {"row": [0, 1, 2, 3], "turn": [0] * 4, "image": [5] * 4,
             "kind": ["reference", "transform", "random", "checkpoint"],
             "transform": ["identity", "rotate", "identity", "identity"],
             "magnitude": pd.array([None, 3.5, None, None], dtype="Float64"),
             "progress": pd.array([None, None, None, 10], dtype="Int64"), "reference": [0, 0, 0, 0]}
        )  # fmt: skip
    data: dict[str, Any] = {}
    for column in TABLES[name].columns:
        values = [VALUES[column.kind](i) for i in range(rows)]
        if column.allowed is not None:
            values = [column.allowed[i % len(column.allowed)] for i in range(rows)]
        if column.name == "state":
            values = ["trained", "random", "epoch_001", "epoch_1000"]
        if column.name.endswith("_low"):
            values = [value - 0.1 for value in values]
        if column.name.endswith("_high"):
            values = [value + 0.1 for value in values]
        masked = {"float64": "Float64", "int64": "Int64"}.get(column.kind)
        if column.nullable and masked:
            data[column.name] = pd.array([None, *values[1:]], dtype=masked)
        else:
            data[column.name] = values
    if name == "boxes":
        data |= {"right": [value + 3 for value in data["left"]], "bottom": [value + 2 for value in data["top"]]}
    if "maximum" in data:
        data["maximum"] = [value + 0.5 for value in data["minimum"]]
    return pd.DataFrame(data)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_comes_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    frame, path = example(name), tmp_path / "deep" / "table.parquet"
    write(name, path, frame)
    back = read(name, path)
    assert back.columns.tolist() == [column.name for column in TABLES[name].columns]
    for column in frame:
        for old, new in zip(frame[column], back[column], strict=True):
            assert (pd.isna(old) and new is pd.NA) or old == new
    assert pq.ParquetFile(path).schema_arrow.equals(TABLES[name].schema)
    assert [file.name for file in tmp_path.glob("deep/*")] == ["table.parquet"]


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator()


@pytest.mark.parametrize("name", sorted(set(TABLES) - {"images"}))
def test_a_valid_table_passes_its_suite(name: str, validator: Validator, tmp_path: Path) -> None:
    write(name, tmp_path / "table.parquet", example(name))
    report = validator.check_file(name, tmp_path / "table.parquet")
    assert report["rows"] == 4
    assert report["expectations"] >= 5


BROKEN: list[tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = [
    ("scores", lambda f: f.drop(columns="ssim"), "found no column 'ssim'; allowed: row, image"),
    ("scores", lambda f: f.assign(extra=1), "found unknown column 'extra'"),
    (
        "scores",
        lambda f: f.assign(ssim=[0.1, np.nan, 0.2, 0.3]),
        r"column ssim, row 1: found NaN; allowed: numbers and",
    ),
    ("predictions", lambda f: f.assign(probability=[0.1, 0.2, np.nan, 0.3]), "column probability, row 2: found NaN"),
    ("predictions", lambda f: f.assign(probability=[0.1, 1.2, 0.2, 0.3]), r"found 1\.2; allowed: 0 to 1"),
    ("predictions", lambda f: f.assign(state=["trained", None, "random", "random"]), "column state, row 1: found null"),
    ("splits", lambda f: f.assign(split="holdout"), "found 'holdout'; allowed: train, validation, test"),
    ("splits", lambda f: f.assign(label=["a", "b", "c", "d"]), "column label: found values of another type"),
    ("splits", lambda f: f.assign(image=[0, 1, 1, 2]), r"found \{'image': 1\} twice; allowed: once"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BROKEN)
def test_a_broken_table_is_refused_before_it_is_written(
    name: str, spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    write(name, path, example(name))
    before = path.read_bytes()
    with pytest.raises(UserError, match=message) as caught:
        write(name, path, spoil(example(name)))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize(("name", "spoil", "message"), BROKEN)
def test_a_hand_edited_file_is_refused_when_it_is_read(
    name: str, spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    spoilt = spoil(example(name))
    arrays = [pa.array(spoilt[column], from_pandas=False) for column in spoilt]
    pq.write_table(pa.Table.from_arrays(arrays, names=list(spoilt)), path)
    with pytest.raises(UserError, match=message):
        read(name, path)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan\.parquet: there is no such file; `dvc repro` makes it"):
        read("plan", tmp_path / "plan.parquet")
    (tmp_path / "plan.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read("plan", tmp_path / "plan.parquet")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"progress": pd.array([None] * 4, dtype="Int64")}, "expect_column_values_to_not_be_null.*progress"),
        (
            {"magnitude": pd.array([1.0, 3.5, None, None], dtype="Float64")},
            r"to_be_null\(column='magnitude'.*found \[1\.0\]",
        ),
        ({"reference": [1, 0, 0, 0]}, "expect_column_pair_values_to_be_equal"),
        ({"transform": ["identity"] * 4}, "expect_column_values_to_not_be_in_set"),
        ({"kind": ["reference", "reference", "random", "checkpoint"]}, "plan: expect_column_"),
    ],
)  # fmt: skip
def test_suites_know_what_holds_between_columns(change: dict[str, Any], message: str, validator: Validator) -> None:
    broken = example("plan").assign(**change)
    check("plan", broken, "plan.parquet")  # the declaration alone does not see it
    with pytest.raises(UserError, match=message) as caught:
        validator.check("plan", broken, "plan.parquet")
    assert str(caught.value).startswith("plan.parquet: table plan: ")
    assert "\n" not in str(caught.value)


def test_an_unknown_state_breaks_the_suite(validator: Validator) -> None:
    with pytest.raises(UserError, match=r"to_match_regex.*found \['epoch'\]"):
        validator.check(
            "predictions", example("predictions").assign(state=["epoch", "trained", "random", "random"]), "p"
        )


def test_whole_leaves_the_old_content_when_the_block_fails(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.txt", tmp_path / "b"
    file.write_text("old")
    folder.mkdir()
    (folder / "one").write_text("old")

    def fail(path: Path, make: Callable[[Path], None]) -> None:
        with whole(path) as draft:
            make(draft)
            raise RuntimeError

    def make_folder(draft: Path) -> None:
        draft.mkdir()
        (draft / "two").write_text("new")

    with pytest.raises(RuntimeError):
        fail(file, lambda draft: draft.write_text("new") and None)
    with pytest.raises(RuntimeError):
        fail(folder, make_folder)
    assert file.read_text() == "old"
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b"]
    with whole(folder) as draft:
        make_folder(draft)
    assert [path.name for path in folder.iterdir()] == ["two"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []
