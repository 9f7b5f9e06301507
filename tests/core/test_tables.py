"""Tables on disk: what is written comes back, and what breaks a declaration is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core import suites, tables
from pipeline.core.errors import UserError
from pipeline.core.tables import COUNT, Column, Rule, Table, check, read, write, write_all
from pipeline.data.prepared import BOXES, IMAGES, PLAN, SPLITS
from pipeline.metrics.scores import SCORES
from pipeline.models.cell import ROWS
from tests.tables import TABLES, example

Spoil = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_comes_back_as_it_was_written(table: Table, tmp_path: Path) -> None:
    frame, path = example(table), tmp_path / "deep" / "table.parquet"
    write(table, path, frame)
    back = read(table, path)
    assert back.columns.tolist() == [column.name for column in table.columns]
    for column in frame:
        for old, new in zip(frame[column], back[column], strict=True):
            assert (pd.isna(old) and pd.isna(new)) or old == new
    for column in table.columns:  # null and NaN stay apart
        if column.nullable and column.kind in ("float64", "int64"):
            assert back[column.name].iloc[0] is pd.NA
    assert pq.ParquetFile(path).schema_arrow.equals(table.schema)
    assert [file.name for file in tmp_path.glob("deep/*")] == ["table.parquet"]
    before = path.read_bytes()
    write(table, path, back.sample(frac=1, random_state=0).sort_index())
    assert path.read_bytes() == before


def test_names_are_apart() -> None:
    assert len({table.name for table in TABLES.values()}) == len(TABLES) == 18


def test_some_images_are_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    write(IMAGES, path, example(IMAGES))
    assert read(IMAGES, path, [3, 1])["encoded"].tolist() == [bytes([1]), bytes([3])]
    with pytest.raises(UserError, match="found no rows; allowed: at least 1"):
        read(IMAGES, path, [7])


BROKEN: list[tuple[Table, Spoil, str]] = [
    (SCORES, lambda f: f.drop(columns="ssim"), "found no column 'ssim'; allowed: row, turn, image"),
    (SCORES, lambda f: f.assign(extra=1), "found unknown column 'extra'"),
    (
        SCORES,
        lambda f: f.assign(ssim=[0.1, np.nan, 0.2, 0.3]),
        "column ssim, row 1: found NaN; allowed: numbers and null",
    ),
    (SCORES, lambda f: f.assign(ssim=[0.1, 0.2, -1.5, 0.3]), r"column ssim: found -1\.5; allowed: -1 to 1"),
    (
        ROWS,
        lambda f: f.assign(probability=[0.1, 0.2, np.nan, 0.3]),
        "column probability, row 2: found NaN; allowed: numbers$",
    ),
    (ROWS, lambda f: f.assign(probability=[0.1, 1.2, 0.2, 0.3]), r"found 1\.2; allowed: 0 to 1"),
    (ROWS, lambda f: f.assign(label=[0, -1, 0, 0]), r"column label: found -1; allowed: 0 to inf"),
    (ROWS, lambda f: f.assign(state=["trained", None, "random", "random"]), "column state, row 1: found null"),
    (
        ROWS,
        lambda f: f.assign(state=["epoch", "trained", "random", "random"]),
        "column state: found 'epoch'; allowed: text that matches trained",
    ),
    (ROWS, lambda f: f.assign(state=["epoch_001\n", "trained", "random", "random"]), r"found 'epoch_001\\n'; allowed:"),
    (SPLITS, lambda f: f.assign(split="holdout"), "found 'holdout'; allowed: train, validation, test"),
    (SPLITS, lambda f: f.assign(label=["a", "b", "c", "d"]), "column label: found values of another type"),
    (SPLITS, lambda f: f.assign(image=[0, 1, 1, 2]), r"found \{'image': 1\} twice; allowed: once"),
    (SPLITS, lambda f: f.iloc[:0], "table splits: found no rows; allowed: at least 1"),
    (
        PLAN,
        lambda f: f.assign(reference=[1, 0, 0, 0]),
        r"table plan, row 0 \(row 0\): breaks the rule that a reference row is its own reference",
    ),
]


@pytest.mark.parametrize(("table", "spoil", "message"), BROKEN)
def test_a_broken_table_is_refused_before_it_is_written(
    table: Table, spoil: Spoil, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    write(table, path, example(table))
    before = path.read_bytes()
    with pytest.raises(UserError, match=message) as caught:
        write(table, path, spoil(example(table)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: table {table.name}")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize(("table", "spoil", "message"), BROKEN)
def test_a_hand_edited_file_is_refused_when_it_is_read(
    table: Table, spoil: Spoil, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    broken = spoil(example(table))
    arrays = [pa.array(broken[column], from_pandas=broken[column].dtype.kind != "f") for column in broken]
    arrays = [array.cast(pa.string()) if pa.types.is_large_string(array.type) else array for array in arrays]
    pq.write_table(pa.Table.from_arrays(arrays, names=list(broken)), path)
    with pytest.raises(UserError, match=message):
        read(table, path)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan\.parquet: there is no such file; `dvc repro` makes it"):
        read(PLAN, tmp_path / "plan.parquet")
    (tmp_path / "plan.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read(PLAN, tmp_path / "plan.parquet")


def rewritten(table: Table, path: Path, change: Callable[[pa.Table], pa.Table], *, keeping: bool = True) -> None:
    """Write a changed copy of a table's file as pyarrow does it, with the metadata of the file or without them."""
    known = pq.read_metadata(path).metadata
    with pq.ParquetWriter(path, (changed := change(pq.read_table(path))).schema) as writer:
        writer.write_table(changed)
        writer.add_key_value_metadata({key: known[key] for key in known if key == COUNT and keeping})


@pytest.mark.parametrize(
    ("change", "keeping", "message"),
    [
        (lambda table: table[:2], True, "found 2 rows where 4 were written"),
        (lambda table: table[:2], False, "found a file that another program wrote"),
        (lambda table: table, False, "found a file that another program wrote"),
        (lambda table: pa.concat_tables([table, table[:1]]), True, r"found \{'image': 0\} twice; allowed: once"),
        (
            lambda table: table.set_column(2, "label", table["label"].cast(pa.int32())),
            True,
            r"column label: found values of another type \(int32\); allowed: int64",
        ),
        (
            lambda table: table.set_column(2, "label", pa.array([2**64 - 1] * 4, pa.uint64())),
            True,
            r"column label: found values of another type \(uint64\); allowed: int64",
        ),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(
    change: Callable[[pa.Table], pa.Table], keeping: bool, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "splits.parquet"
    write(SPLITS, path, example(SPLITS))
    rewritten(SPLITS, path, change, keeping=keeping)
    with pytest.raises(UserError, match=rf"^{path}: table splits[:,] {message}"):
        read(SPLITS, path)


def test_the_same_rows_written_with_their_number_are_read(tmp_path: Path) -> None:
    path = tmp_path / "splits.parquet"
    write(SPLITS, path, example(SPLITS))
    rewritten(SPLITS, path, lambda table: table)
    assert read(SPLITS, path).equals(example(SPLITS))


@pytest.mark.slow
def test_every_flipped_byte_of_a_page_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "splits.parquet"
    write(SPLITS, path, example(SPLITS))
    good, same = path.read_bytes(), read(SPLITS, path)
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    noticed = 0
    for at in range(footer):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            assert read(SPLITS, path).equals(same), f"byte {at} of {footer} changed what is read"
        except UserError as error:
            assert "\n" not in str(error)
            noticed += 1
    assert noticed > footer / 2  # the rest says nothing of the values: statistics, how pages are packed


def test_a_table_that_may_be_empty(tmp_path: Path) -> None:
    write(BOXES, tmp_path / "boxes.parquet", BOXES.from_lines([]))
    assert len(read(BOXES, tmp_path / "boxes.parquet")) == 0


SLEEPING = Table(
    "sleeping",
    "Its quick check never finds anything.",
    (Column("number", "int64", "a number"), Column("text", "string", "a word", nullable=True)),
    ("number",),
    (Rule("text is null", lambda frame: np.zeros(len(frame), bool), "ExpectColumnValuesToBeNull", {"column": "text"}),),
)


def test_what_only_the_suite_finds_is_not_written_either(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write(SLEEPING, path, pd.DataFrame({"number": [0, 1], "text": [None, None]}))
    before = path.read_bytes()
    broken = pd.DataFrame({"number": [0, 1], "text": [None, "awake"]})
    check(SLEEPING, broken, "test")
    with pytest.raises(UserError) as caught:
        write(SLEEPING, path, broken)
    assert str(caught.value) == (
        f"{path}: table sleeping: expect_column_values_to_be_null(column='text') fails; found ['awake']"
    )
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize("table", [SLEEPING, SPLITS], ids=["by the suite", "by the quick check"])
def test_of_tables_that_belong_together_all_are_written_or_none(table: Table, tmp_path: Path) -> None:
    good = (BOXES, tmp_path / "boxes.parquet", example(BOXES))
    frame = example(table)
    bad = frame.assign(text="awake") if table is SLEEPING else frame.assign(split="holdout")
    with pytest.raises(UserError, match=f"table {table.name}"):
        write_all([good, (table, tmp_path / "bad.parquet", bad)])
    assert list(tmp_path.iterdir()) == []
    fine = frame.assign(text=None) if table is SLEEPING else frame
    write_all([good, (table, tmp_path / "good.parquet", fine)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["boxes.parquet", "good.parquet"]


def in_parts(table: Table, rows: int) -> Iterator[pd.DataFrame]:
    frame = example(table)
    yield from (frame.iloc[start : start + rows].reset_index(drop=True) for start in range(0, len(frame), rows))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_parts_are_written_as_the_whole_is(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 3)
    monkeypatch.setattr(suites, "run_suite", lambda *_: {})  # whose rules are about all rows of an image
    monkeypatch.setattr(tables, "_check_rules", lambda *_: None)
    write(table, tmp_path / "whole.parquet", example(table))
    write_all([(table, tmp_path / "parts.parquet", in_parts(table, 3))])
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert pq.ParquetFile(tmp_path / "parts.parquet").num_row_groups == 2


class Counted(bytes):
    """Bytes that say how many of them are in memory."""

    alive, most = 0, 0

    def __new__(cls, content: bytes) -> Counted:
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, content)

    def __del__(self) -> None:
        Counted.alive -= 1


def test_parts_are_taken_one_after_the_other(tmp_path: Path) -> None:
    def parts() -> Iterator[pd.DataFrame]:
        for number in range(12):
            numbers = np.arange(4) + 4 * number
            encoded = [Counted(one.tobytes()) for one in numbers]
            yield pd.DataFrame({"image": numbers, "encoded": encoded, "mask": None})

    write_all([(IMAGES, tmp_path / "images.parquet", parts())])
    assert len(read(IMAGES, tmp_path / "images.parquet")) == 48
    assert Counted.most <= 12, "the part that is written, the next one, and the last that the suite looked at"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda part: part.assign(encoded=[b"a", None]),
            "images.parquet, from row 2: table images, column encoded, row 1: found null; allowed: no nulls",
        ),
        (
            lambda part: part.assign(image=[9, 1]),
            "images.parquet: table images: found {'image': 1} twice; allowed: once",
        ),
        (
            lambda part: part.drop(columns="mask"),
            "images.parquet, from row 2: table images: found no column 'mask'; allowed: image, encoded, mask",
        ),
    ],
)
def test_a_broken_part_leaves_nothing_written(spoil: Spoil, message: str, tmp_path: Path) -> None:
    def parts() -> Iterator[pd.DataFrame]:
        first, second = in_parts(IMAGES, 2)
        yield from (first, spoil(second))

    with pytest.raises(UserError) as caught:
        write_all(
            [
                (IMAGES, tmp_path / "images.parquet", parts()),
                (BOXES, tmp_path / "boxes.parquet", example(BOXES)),
            ]
        )
    assert str(caught.value) == f"{tmp_path}/{message}"
    assert list(tmp_path.iterdir()) == []


def test_no_parts_are_a_table_without_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images\.parquet: table images: found no rows; allowed: at least 1"):
        write_all([(IMAGES, tmp_path / "images.parquet", iter(()))])
    write_all([(BOXES, tmp_path / "boxes.parquet", iter(()))])
    assert len(read(BOXES, tmp_path / "boxes.parquet")) == 0


def test_every_part_has_passed_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(suites, "run_suite", lambda table, frame, source: seen.append((table.name, len(frame))))
    write_all(
        [
            (IMAGES, tmp_path / "images.parquet", in_parts(IMAGES, 3)),
            (BOXES, tmp_path / "b.parquet", example(BOXES)),
        ]
    )
    assert seen == [("boxes", 4), ("images", 3), ("images", 1)], "small tables fail before large ones are made"


def test_every_table_that_is_written_has_passed_its_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, str]] = []
    monkeypatch.setattr(suites, "run_suite", lambda table, frame, source: seen.append((table.name, len(frame), source)))
    path = tmp_path / "table.parquet"
    write(SPLITS, path, example(SPLITS))
    assert seen == [("splits", 4, str(path))]
