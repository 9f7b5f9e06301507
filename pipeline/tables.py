"""Every table on disk: its columns, what their values may be, and reading and writing it.

A table is declared once, here. From the declaration come the Parquet schema, the quick check that every reader and
writer makes (columns, types, nulls, NaN, ranges), and the Great Expectations suite that the gate stages run
(`pipeline.expectations`). NaN is never stored: what is undefined is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.storage import whole

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
    """

    name: str
    kind: Kind
    meaning: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Table:
    """What one table holds.

    Attributes:
        name: what messages and suites call it.
        meaning: one sentence for people.
        columns: its columns, in order.
        key: the columns that together tell its rows apart.
        may_be_empty: whether a table without rows is good.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    may_be_empty: bool = False

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the Parquet file."""
        return pa.schema([pa.field(c.name, ARROW[c.kind], nullable=c.nullable) for c in self.columns])


SPLITS = ("train", "validation", "test")
ROW_KINDS = ("reference", "transform", "random", "checkpoint")
PROTOCOLS = ("paper", "balanced")
SIMILARITIES = ("ssim", "spearman")

_ROW = Column("row", "int64", "number of the row in the dataset's plan", minimum=0)
_PERTURBATION = (
    Column("image", "int64", "number of the image in the dataset's splits", minimum=0),
    Column("kind", "string", "what was perturbed", allowed=ROW_KINDS),
    Column("transform", "string", "name of the input transform; `identity` where the input is as it is"),
    Column(
        "magnitude",
        "float64",
        "strength of the transform (pixels, degrees, or factor - 1)",
        nullable=True,
        minimum=-180,
        maximum=1024,
    ),
)


def _interval(name: str, meaning: str) -> tuple[Column, ...]:
    return (
        Column(name, "float64", meaning, nullable=True, minimum=-1, maximum=2),
        Column(f"{name}_low", "float64", f"lower end of the interval of {name}", nullable=True, minimum=-1, maximum=2),
        Column(f"{name}_high", "float64", f"upper end of the interval of {name}", nullable=True, minimum=-1, maximum=2),
    )


def _counted(name: str, meaning: str) -> tuple[Column, ...]:
    return (
        *_interval(name, meaning),
        Column(f"{name}_rows", "int64", f"rows with a defined similarity behind {name}", minimum=0),
        Column(f"{name}_images", "int64", f"images with such rows behind {name}", minimum=0),
        Column(
            f"{name}_undefined",
            "int64",
            f"rows of {name} left out because their similarity is undefined (a flat map)",
            minimum=0,
        ),
    )


GROUPS = {
    "consistency": "mean similarity of input transforms that keep the prediction (and, in `paper`, keep it right)",
    "consistency_geometric": "the same, geometric transforms only",
    "consistency_photometric": "the same, photometric transforms only",
    "sensitivity": "1 - mean similarity of rows that change the prediction",
    "sensitivity_image": "the same, input transforms only",
    "sensitivity_model": "the same, random models and checkpoints only",
    "sensitivity_random": "the same, random models only",
    "sensitivity_checkpoints": "the same, checkpoints only",
}
"""The means of the benchmark; see `pipeline.cose`."""

_CELL = (
    Column("dataset", "string", "name in params.yaml"),
    Column("model", "string", "name in params.yaml"),
    Column("method", "string", "name in params.yaml"),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "images",
            "The image files of a dataset, as they came or as they were drawn.",
            (
                Column("image", "int64", "number of the image", minimum=0),
                Column("encoded", "binary", "bytes of a PNG or JPEG file"),
                Column("mask", "binary", "bytes of a PNG, non-zero where the object is", nullable=True),
            ),
            ("image",),
        ),
        Table(
            "boxes",
            "Boxes round the objects of a dataset, where the publisher drew some; an image may have several or none.",
            (
                Column("image", "int64", "number of the image", minimum=0),
                Column("number", "int64", "number of the box among those of the image", minimum=0),
                *(
                    Column(edge, "float64", f"{edge} edge in pixels of the image file, 0 being its {side}", minimum=0)
                    for edge, side in (("left", "left"), ("top", "top"), ("right", "left"), ("bottom", "top"))
                ),
            ),
            ("image", "number"),
            may_be_empty=True,
        ),
        Table(
            "splits",
            "Label and split of every image of a dataset.",
            (
                Column("image", "int64", "number of the image", minimum=0),
                Column("name", "string", "readable name, such as the path below the dataset's root"),
                Column("label", "int64", "number of the class", minimum=0),
                Column("class_name", "string", "name of the class"),
                Column("split", "string", "what the image is used for", allowed=SPLITS),
            ),
            ("image",),
        ),
        Table(
            "plan",
            "The rows of a dataset: which image, perturbed how; shared by all models and methods.",
            (
                _ROW,
                Column(
                    "turn", "int64", "when the image was drawn, from 0; fewer images are those first drawn", minimum=0
                ),
                *_PERTURBATION,
                Column(
                    "progress",
                    "int64",
                    "percent of the training after which the checkpoint was taken; null for other kinds",
                    nullable=True,
                    minimum=1,
                    maximum=99,
                ),
                Column("reference", "int64", "row of the same image, unperturbed, under the trained model", minimum=0),
            ),
            ("row",),
        ),
        Table(
            "predictions",
            "What a model in the state of each row predicts for the input of that row; all rows of the plan, but for "
            "checkpoints that a user's own model does not have.",
            (
                _ROW,
                Column("state", "string", "`trained`, `random` or `epoch_NNN`"),
                Column("label", "int64", "true class of the image", minimum=0),
                Column("prediction", "int64", "predicted class", minimum=0),
                Column("probability", "float64", "softmax score of the predicted class", minimum=0, maximum=1),
            ),
            ("row",),
        ),
        Table(
            "index",
            "One line per map of a cell; map number i of maps.npy belongs to line i. All rows of the predictions, or "
            "those of the images first drawn.",
            (
                _ROW,
                Column("state", "string", "`trained`, `random` or `epoch_NNN`"),
                Column("target", "int64", "class that the map explains: the row's own prediction", minimum=0),
                Column("minimum", "float64", "least value of the map", minimum=-1, maximum=1),
                Column("maximum", "float64", "greatest value of the map", minimum=-1, maximum=1),
                Column("flat", "bool", "whether all values are equal, so that similarities are undefined"),
            ),
            ("row",),
        ),
        Table(
            "scores",
            "Similarity of every map to the map of the same image, unperturbed, under the trained model.",
            (
                _ROW,
                *_PERTURBATION,
                Column("state", "string", "`trained`, `random` or `epoch_NNN`"),
                Column("label", "int64", "true class of the image", minimum=0),
                Column("reference_prediction", "int64", "class predicted for the unperturbed image", minimum=0),
                Column("prediction", "int64", "class predicted in this row", minimum=0),
                Column("valid_pixels", "int64", "pixels that were compared", minimum=0),
                Column(
                    "ssim",
                    "float64",
                    "structural similarity; null where a map is flat or too little of it is left in the frame",
                    nullable=True,
                    minimum=-1,
                    maximum=1,
                ),
                Column(
                    "spearman",
                    "float64",
                    "rank correlation; null where a map is flat",
                    nullable=True,
                    minimum=-1,
                    maximum=1,
                ),
            ),
            ("row",),
        ),
        Table(
            "cose",
            "The benchmark's numbers: one line per cell, protocol and similarity.",
            (
                *_CELL,
                Column("protocol", "string", "how rows are chosen and pooled", allowed=PROTOCOLS),
                Column("similarity", "string", "how maps are compared", allowed=SIMILARITIES),
                *_interval("cose", "root of consistency times sensitivity; null where there is no root"),
                *(column for name, meaning in GROUPS.items() for column in _counted(name, meaning)),
            ),
            ("dataset", "model", "method", "protocol", "similarity"),
        ),
        Table(
            "transforms",
            "Mean similarity per cell, perturbation and outcome: the numbers behind the means.",
            (
                *_CELL,
                Column("similarity", "string", "how maps are compared", allowed=SIMILARITIES),
                Column("perturbation", "string", "name of the transform, or `random`, or `checkpoint`"),
                Column(
                    "outcome",
                    "string",
                    "what became of the prediction",
                    allowed=("kept_right", "kept_wrong", "changed_right", "changed_wrong"),
                ),
                Column(
                    "mean",
                    "float64",
                    "mean similarity; null without defined rows",
                    nullable=True,
                    minimum=-1,
                    maximum=1,
                ),
                Column("rows", "int64", "rows with a defined similarity", minimum=0),
                Column("undefined", "int64", "rows without", minimum=0),
            ),
            ("dataset", "model", "method", "similarity", "perturbation", "outcome"),
        ),
    )
}


def from_lines(name: str, lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a table from one mapping a line, None standing for null (plain pandas would make NaN of it)."""
    columns: dict[str, Any] = {}
    for column in TABLES[name].columns:
        values = [line[column.name] for line in lines]
        masked = _MASKED.get(ARROW[column.kind])
        columns[column.name] = pd.array(values, dtype=masked) if column.nullable and masked else values
    return pd.DataFrame(columns)


def check(name: str, frame: pd.DataFrame, source: str) -> pa.Table:
    """Check a table against its declaration.

    Args:
        name: key of `TABLES`.
        frame: what is to be written.
        source: what to call it in the message, usually its file.

    Returns:
        The table with the declared schema, as it is to be written.

    Raises:
        UserError: a column is missing, unknown, of the wrong type, or holds a null, a NaN or a value that is not
            allowed; or two rows have the same key. The message gives the first such row.
    """
    table = TABLES[name]
    _check_names(table, list(frame.columns), source)
    arrays = []
    for column in table.columns:
        try:
            # NaN must not become null here: it has to be found.
            arrays.append(pa.array(frame[column.name], type=ARROW[column.kind], from_pandas=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise _wrong_type(table, column, str(error), source) from None
    arrow = pa.Table.from_arrays(arrays, schema=table.schema)
    _check_values(table, arrow, source)
    return arrow


def _wrong_type(table: Table, column: Column, found: str, source: str) -> UserError:
    where = f"{source}: table {table.name}, column {column.name}"
    return UserError(f"{where}: found values of another type ({found}); allowed: {column.kind}")


def _check_names(table: Table, found: list[str], source: str) -> None:
    expected = [column.name for column in table.columns]
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if missing or unknown:
        wrong = f"no column {missing[0]!r}" if missing else f"unknown column {unknown[0]!r}"
        raise UserError(f"{source}: table {table.name}: found {wrong}; allowed: {', '.join(expected)}")


def _check_values(table: Table, arrow: pa.Table, source: str) -> None:
    for column in table.columns:
        _check_column(f"{source}: table {table.name}, column {column.name}", column, arrow[column.name])
    repeated = arrow.select(list(table.key)).to_pandas().duplicated()
    if repeated.any():
        where = {name: arrow[name][int(repeated.idxmax())].as_py() for name in table.key}
        raise UserError(f"{source}: table {table.name}: found {where} twice; allowed: once")


def _check_column(where: str, column: Column, values: pa.ChunkedArray) -> None:
    if values.null_count and not column.nullable:
        row = values.is_null().to_pylist().index(True)
        raise UserError(f"{where}, row {row}: found null; allowed: no nulls")
    if column.kind == "float64":
        not_a_number = np.isnan(values.fill_null(0).to_numpy())
        if not_a_number.any():
            allowed = "numbers and null" if column.nullable else "numbers"
            raise UserError(f"{where}, row {int(not_a_number.argmax())}: found NaN; allowed: {allowed}")
    present = values.drop_null()
    if column.allowed is not None:
        wrong = [value for value in present.unique().to_pylist() if value not in column.allowed]
        if wrong:
            raise UserError(f"{where}: found {wrong[0]!r}; allowed: {', '.join(column.allowed)}")
    if column.minimum is not None or column.maximum is not None:
        numbers = present.to_numpy()
        low = -np.inf if column.minimum is None else column.minimum
        high = np.inf if column.maximum is None else column.maximum
        outside = (numbers < low) | (numbers > high)
        if outside.any():
            raise UserError(f"{where}: found {numbers[outside.argmax()]}; allowed: {low:g} to {high:g}")


def write(name: str, path: Path, frame: pd.DataFrame) -> None:
    """Check a table and write it as Parquet, whole or not at all.

    The bytes depend on the content alone (no time stamps, no index, no pandas metadata).

    Raises:
        UserError: the table breaks its declaration; nothing is written.
    """
    arrow = check(name, frame, str(path))
    with whole(path) as draft:
        pq.write_table(arrow, draft, compression="zstd", row_group_size=ROW_GROUP)


def read(name: str, path: Path, images: Sequence[int] | None = None) -> pd.DataFrame:
    """Read a Parquet file and check it.

    Args:
        name: key of `TABLES`.
        path: the file.
        images: read only the rows of these images; None reads all.

    Returns:
        The table; nullable numbers come as pandas' masked types, so that null and NaN stay apart.

    Raises:
        UserError: the file is missing, is no Parquet file, or breaks the table's declaration.
    """
    try:
        wanted = None if images is None else [("image", "in", [int(image) for image in images])]
        arrow = pq.read_table(path, filters=wanted, partitioning=None)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; `dvc repro` makes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({' '.join(str(error).split())})") from None
    table = TABLES[name]
    _check_names(table, arrow.column_names, str(path))
    for column in table.columns:
        if not _SAME_KIND[column.kind](arrow[column.name].type):
            raise _wrong_type(table, column, str(arrow[column.name].type), str(path))
    arrow = arrow.select(table.schema.names).cast(pa.schema([(c.name, ARROW[c.kind]) for c in table.columns]))
    _check_values(table, arrow, str(path))
    frame = arrow.to_pandas(types_mapper=_MASKED.get, ignore_metadata=True)
    plain = {c.name: _PLAIN[c.kind] for c in table.columns if not c.nullable and c.kind in _PLAIN}
    return frame.astype(plain)


_MASKED = {pa.int64(): pd.Int64Dtype(), pa.float64(): pd.Float64Dtype(), pa.bool_(): pd.BooleanDtype()}
_SAME_KIND = {
    "int64": pa.types.is_integer,
    "float64": pa.types.is_floating,
    "string": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    "bool": pa.types.is_boolean,
    "binary": lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind),
}
"""Other programs write the same values in wider or narrower types."""
_PLAIN = {"int64": "int64", "float64": "float64", "bool": "bool"}
