"""Splits that the user names for a folder of pictures: by folders, or in a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pipeline.core.errors import UserError, nearest
from pipeline.data.image_files import read_file
from pipeline.data.prepared import SPLIT_NAMES

TABLE = "splits.csv"
"""Below the folder of pictures: the columns ``name``, relative to that folder, and ``split``."""

HEADER = ["name", "split"]


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders named after splits, in the order of `SPLIT_NAMES`; validation may be missing.

    Raises:
        UserError: there is no folder for training or for testing; the message names it.
    """
    folders = {name: root / name for name in SPLIT_NAMES if (root / name).is_dir()}
    for name in ("train", "test"):
        if name not in folders:
            raise UserError(
                root,
                f"found no folder {name!r}",
                fix="split.test: folders needs train and test, and may have validation, each with one folder "
                "of pictures per class",
            )
    return folders


def read_split_table(root: Path, names: list[str]) -> list[str]:
    """Read which split each picture belongs to.

    Args:
        root: the folder of pictures, which has the table.
        names: of the pictures, relative to ``root``.

    Returns:
        "train", "validation" or "test" for each of ``names``.

    Raises:
        UserError: the table is missing or not a table, a row names an unknown picture or split, or a picture has no row
            or several; the message names the row or the picture.
    """
    file = root / TABLE
    if not file.exists():
        raise UserError(
            file, "there is no such file", fix="split.test: table needs it, with the columns name and split"
        )
    try:
        rows = list(csv.reader(io.StringIO(read_file(file).decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(file, f"not a CSV file in UTF-8 ({error})") from None
    if not rows or rows[0] != HEADER:
        found = ",".join(rows[0])[:100] if rows else ""
        raise UserError(f"{file}: row 1", f"found {found!r}", expected=",".join(HEADER))
    known, splits = set(names), dict[str, str]()
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue  # a blank line
        if len(row) != len(HEADER):
            raise UserError(f"{file}: row {number}", f"found {len(row)} values", expected=len(HEADER))
        name, split = row
        if split not in SPLIT_NAMES:
            raise UserError(
                f"{file}: row {number}", f"found the split {split[:100]!r}", expected=", ".join(SPLIT_NAMES)
            )
        if name not in known:
            raise UserError(
                f"{file}: row {number}",
                f"found {name[:100]!r}, which is not a picture below {root}{nearest(name, known)}",
            )
        if name in splits:
            raise UserError(f"{file}: row {number}", f"found {name!r} a second time", expected="one row per picture")
        splits[name] = split
    for name in names:
        if name not in splits:
            raise UserError(file, f"found no row for {name!r}", expected="one row per picture")
    return [splits[name] for name in names]
