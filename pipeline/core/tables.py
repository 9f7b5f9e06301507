"""What a table on disk is: its columns, what their values may be, and reading and writing it.

A table is declared once, beside what writes it. From the declaration follow the Parquet schema, the quick check that
every reader and writer makes (columns, types, nulls, NaN, ranges, and what holds between columns), and the Great
Expectations suite that a table must pass before it is written (`pipeline.core.suites`). NaN is never stored: what is
undefined is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED, atomic_write, missing

Kind = Literal["int64", "float64", "string", "bool", "binary"]
ARROW: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "binary": pa.binary(),
}

ROW_GROUP = 256
"""Rows written together; small, because a reader of some images unpacks the groups that they lie in."""
WRITTEN: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How Parquet files are written."""
COUNT = b"cose.rows"
"""Key in a file's metadata of the number of rows that were written. Programs that write a changed copy of the file drop
it, or keep it as it was: either is noticed."""


@dataclass(frozen=True)
class Column:
    """What one column holds.

    Attributes:
        name: its name.
        kind: the type of its values.
        meaning: one sentence for people.
        nullable: whether null (undefined, not applicable) is allowed.
        minimum: least value allowed, None for no bound.
        maximum: greatest value allowed, None for no bound.
        allowed: the only values allowed, None for no such list.
        pattern: regular expression that text must match, None for any text.
    """

    name: str
    kind: Kind
    meaning: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Rule:
    """What holds between the columns of a table, for the quick check and for Great Expectations.

    Attributes:
        meaning: what holds, for messages.
        breaks: ``table -> (rows,)``, true where a row breaks the rule.
        expectation: name of a class in ``great_expectations.expectations`` that says the same.
        arguments: of that class.
        where: the rows that it is about, as pandas' ``query`` takes it; None for all.
    """

    meaning: str
    breaks: Callable[[pd.DataFrame], Any]
    expectation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    where: str | None = None


def null_where(column: str, condition: Callable[[pd.DataFrame], Any], where: str) -> Rule:
    """Return the rule that a column is null in some rows."""
    return Rule(
        f"{column} is null where {where}",
        lambda table: condition(table) & table[column].notna(),
        "ExpectColumnValuesToBeNull",
        {"column": column},
        where,
    )


def present_where(column: str, condition: Callable[[pd.DataFrame], Any], where: str) -> Rule:
    """Return the rule that a column is not null in some rows."""
    return Rule(
        f"{column} is not null where {where}",
        lambda table: condition(table) & table[column].isna(),
        "ExpectColumnValuesToNotBeNull",
        {"column": column},
        where,
    )


def at_least(high: str, low: str, *, more: bool = False) -> Rule:
    """Return the rule that one column is at least (or more than) another wherever both are present."""

    def breaks(table: pd.DataFrame) -> Any:
        worse = table[high] <= table[low] if more else table[high] < table[low]
        return worse.fillna(False)

    return Rule(
        f"{high} is {'more than' if more else 'at least'} {low}",
        breaks,
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {"column_A": high, "column_B": low, "or_equal": not more, "ignore_row_if": "either_value_is_missing"},
    )


@dataclass(frozen=True)
class Table:
    """What one table holds.

    Attributes:
        name: what messages and suites call it.
        meaning: one sentence for people.
        columns: its columns, in order.
        key: the columns that together tell its rows apart.
        rules: what holds between its columns.
        may_be_empty: whether it may have no rows.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    may_be_empty: bool = False

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the Parquet file."""
        return pa.schema([pa.field(c.name, ARROW[c.kind], nullable=c.nullable) for c in self.columns])

    def from_lines(self, lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Return a table from one mapping per row, None standing for null (plain pandas would make NaN of it)."""
        columns: dict[str, Any] = {}
        for column in self.columns:
            values = [line[column.name] for line in lines]
            masked = _MASKED.get(ARROW[column.kind])
            columns[column.name] = pd.array(values, dtype=masked) if column.nullable and masked else values
            if not values and column.kind == "string":
                columns[column.name] = pd.array([], dtype="string")  # pandas would take nothing for numbers
        return pd.DataFrame(columns)


def check(table: Table, frame: pd.DataFrame, source: str) -> pa.Table:
    """Check a table against its declaration.

    Args:
        table: the declaration.
        frame: what is to be written.
        source: what to call it in the message, usually its file.

    Returns:
        The table with the declared schema, as it is to be written.

    Raises:
        UserError: a column is missing, unknown, of the wrong type, or holds a null, a NaN or a value that is not
            allowed; two rows have the same key; or a rule is broken. The message gives the first such row.
    """
    _check_names(table, list(frame.columns), source)
    arrays = []
    for column in table.columns:
        try:
            # NaN must not become null here, or nobody would find it.
            arrays.append(pa.array(frame[column.name], type=ARROW[column.kind], from_pandas=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise _wrong_type(table, column, str(error), source) from None
    arrow = pa.Table.from_arrays(arrays, schema=table.schema)
    _check_values(table, arrow, source)
    _check_rules(table, frame, source)
    return arrow


def lines_of(frame: pd.DataFrame) -> Iterator[Any]:
    """Yield a frame's rows as named tuples with the index as ``Index``; what types they have, its table says."""
    return iter(frame.itertuples())


def _wrong_type(table: Table, column: Column, found: str, source: str) -> UserError:
    where = f"{source}: table {table.name}, column {column.name}"
    return UserError(where, f"found values of another type ({found})", expected=column.kind)


def _check_names(table: Table, found: list[str], source: str) -> None:
    expected = [column.name for column in table.columns]
    absent = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if absent or unknown:
        wrong = f"no column {absent[0]!r}" if absent else f"unknown column {unknown[0]!r}"
        more = f" and {len(expected) - 12} more" if len(expected) > 12 else ""
        raise UserError(f"{source}: table {table.name}", f"found {wrong}", expected=", ".join(expected[:12]) + more)


def _check_values(table: Table, arrow: pa.Table, source: str) -> None:
    if not len(arrow) and not table.may_be_empty:
        raise UserError(f"{source}: table {table.name}", "found no rows", expected="at least 1")
    for column in table.columns:
        _check_column(f"{source}: table {table.name}, column {column.name}", column, arrow[column.name])
    _check_keys(table, arrow, source)


def _check_keys(table: Table, arrow: pa.Table, source: str) -> None:
    repeated = arrow.select(list(table.key)).to_pandas().duplicated()
    if repeated.any():
        where = {name: arrow[name][int(repeated.idxmax())].as_py() for name in table.key}
        raise UserError(f"{source}: table {table.name}", f"found {where} twice", expected="once")


def _check_column(where: str, column: Column, values: pa.ChunkedArray) -> None:
    if values.null_count and not column.nullable:
        row = values.is_null().to_pylist().index(True)
        raise UserError(f"{where}, row {row}", "found null", expected="no nulls")
    if column.kind == "float64":
        not_a_number = np.isnan(values.fill_null(0).to_numpy())
        if not_a_number.any():
            allowed = "numbers and null" if column.nullable else "numbers"
            raise UserError(f"{where}, row {int(not_a_number.argmax())}", "found NaN", expected=allowed)
    present = values.drop_null()
    if column.allowed is not None:
        wrong = [value for value in present.unique().to_pylist() if value not in column.allowed]
        if wrong:
            raise UserError(where, f"found {wrong[0]!r}", expected=", ".join(column.allowed))
    if column.pattern is not None:
        distinct = pd.Series(present.unique().to_pylist(), dtype=object)
        wrong = distinct[~distinct.str.fullmatch(column.pattern).astype(bool)].tolist()
        if wrong:
            raise UserError(where, f"found {wrong[0]!r}", expected=f"text that matches {column.pattern}")
    if column.minimum is not None or column.maximum is not None:
        numbers = present.to_numpy()
        low = -np.inf if column.minimum is None else column.minimum
        high = np.inf if column.maximum is None else column.maximum
        outside = (numbers < low) | (numbers > high)
        if outside.any():
            raise UserError(where, f"found {numbers[outside.argmax()]}", expected=f"{low:g} to {high:g}")


def _check_rules(table: Table, frame: pd.DataFrame, source: str) -> None:
    for rule in table.rules:
        broken = np.asarray(rule.breaks(frame), dtype=bool)
        if broken.any():
            row = int(broken.argmax())
            key = {name: frame[name].iloc[row] for name in table.key}
            found = ", ".join(
                f"{name} {getattr(value, 'item', lambda value=value: value)()!r}" for name, value in key.items()
            )
            raise UserError(
                f"{source}: table {table.name}, row {row} ({found})", f"breaks the rule that {rule.meaning}"
            )


def write(table: Table, path: Path, frame: pd.DataFrame) -> None:
    """Check a table, run its suite and write it as Parquet, whole or not at all.

    The bytes depend on the content alone (no time stamps, no index, no pandas metadata).

    Raises:
        UserError: the table breaks its declaration or its suite; nothing is written.
    """
    write_all([(table, path, frame)])


def write_all(files: Sequence[tuple[Table, Path, pd.DataFrame | Iterable[pd.DataFrame]]]) -> None:
    """Write several tables that belong together: none is put in place before all have passed; see `write`.

    Args:
        files: for each table its declaration, its file, and its rows: all of them, or parts that are taken, checked and
            written one after the other, for a table that memory does not hold. Parts of `ROW_GROUP` rows give the same
            bytes as all rows together.
    """
    from pipeline.core.suites import run_suite  # Great Expectations takes seconds to import, and readers do without

    checked = []
    for table, path, rows in files:
        if isinstance(rows, pd.DataFrame):
            checked.append((path, check(table, rows, str(path))))
            run_suite(table, rows, str(path))
    with ExitStack() as stack:  # at its end all drafts are put in place, or none
        for table, path, rows in files:
            if not isinstance(rows, pd.DataFrame):
                _write_parts(table, stack.enter_context(atomic_write(path)), rows, str(path))
        for path, arrow in checked:
            with _writer(stack.enter_context(atomic_write(path)), arrow.schema) as add:
                add(arrow)


@contextmanager
def _writer(draft: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Open a Parquet file, yield what adds rows to it, and say at the end how many there are."""
    rows = 0
    with pq.ParquetWriter(draft, schema, **WRITTEN) as file:

        def add(part: pa.Table) -> None:
            nonlocal rows
            file.write_table(part, row_group_size=ROW_GROUP)
            rows += len(part)

        yield add
        file.add_key_value_metadata({COUNT: str(rows)})


def _write_parts(table: Table, draft: Path, parts: Iterable[pd.DataFrame], source: str) -> None:
    """Check and write parts of a table; only their keys stay in memory, since no two rows may have the same."""
    from pipeline.core.suites import run_suite

    keys, start = [table.schema.empty_table().select(list(table.key))], 0
    with _writer(draft, table.schema) as add:
        for frame in parts:
            where = f"{source}, from row {start}" if start else source
            arrow = check(table, frame, where)
            run_suite(table, frame, where)
            add(arrow)
            keys.append(arrow.select(list(table.key)))
            start += len(arrow)
    if not start:
        _check_values(table, table.schema.empty_table(), source)
    _check_keys(table, pa.concat_tables(keys), source)


def read(table: Table, path: Path, images: Sequence[int] | None = None) -> pd.DataFrame:
    """Read a Parquet file and check it.

    Args:
        table: the declaration.
        path: the file.
        images: read only the rows of these images; None reads all.

    Returns:
        The table; nullable numbers come as pandas' masked types, so that null and NaN stay apart.

    Raises:
        UserError: the file is missing, is not a Parquet file, breaks the table's declaration, or is not as it was
            written.
    """
    try:
        wanted = None if images is None else [("image", "in", [int(image) for image in images])]
        with pq.ParquetFile(path) as file:
            names, types, written = file.schema_arrow.names, file.schema_arrow.types, file.metadata
        _check_names(table, names, str(path))
        for column, kind in ((column, types[names.index(column.name)]) for column in table.columns):
            if kind != ARROW[column.kind]:
                raise _wrong_type(table, column, str(kind), str(path))
        arrow = pq.read_table(path, filters=wanted, partitioning=None, page_checksum_verification=True)
    except FileNotFoundError:
        raise missing(path) from None
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(path, f"not a readable Parquet file ({reason})", fix=DAMAGED) from None
    arrow = arrow.select(table.schema.names)
    _check_values(table, arrow, str(path))
    frame = arrow.to_pandas(types_mapper=_MASKED.get, ignore_metadata=True)
    plain = {c.name: _PLAIN[c.kind] for c in table.columns if not c.nullable and c.kind in _PLAIN}
    frame = frame.astype(plain)
    _check_rules(table, frame, str(path))
    _check_count(table, written, str(path))
    return frame


def _check_count(table: Table, written: pq.FileMetaData, source: str) -> None:
    said = (written.metadata or {}).get(COUNT, b"").decode(errors="replace")
    if said != str(written.num_rows):
        found = f"{written.num_rows} rows where {said} were written" if said else "a file that another program wrote"
        raise UserError(f"{source}: table {table.name}", f"found {found}", fix=DAMAGED)


_MASKED: dict[Any, Any] = {pa.int64(): pd.Int64Dtype(), pa.float64(): pd.Float64Dtype(), pa.bool_(): pd.BooleanDtype()}
_PLAIN = {"int64": "int64", "float64": "float64", "bool": "bool"}
