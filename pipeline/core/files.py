"""Files that are written whole or not at all, and files that come with the code.

Where an artifact lies is said beside what writes it (`pipeline.data.prepared`, `pipeline.models.trained`, ...). All
those paths are relative to the root of the repository, which is the working directory of every stage.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

DATA = Path("data")
"""Everything that the stages compute and DVC keeps."""
GRID = DATA / "grid"
"""What check_params found in params.yaml for the stages of the grid, in a file for each or for all that share it."""
METRICS = Path("metrics")
"""Small tables and numbers that are committed."""

SCRATCH = ".tmp"
"""Suffix of a folder that is being written to."""


DAMAGED = "it is damaged: `make verify` finds all that is, and `make verify REPAIR=1` mends it"
"""What a reader says of a file that is not what was written."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a disk without room."""


def package_file(module_file: str, relative: str) -> Path:
    """Return a file or folder that comes with the code.

    The fingerprint of a stage includes what is named here, so both arguments are written out where this is called.

    Args:
        module_file: ``__file__`` of the calling module.
        relative: the path from that module's folder.
    """
    return Path(module_file).parent / relative


def md5(path: Path) -> str:
    """Return the MD5 checksum of a file, which DVC and older archives are named after, 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raise a `UserError` for a file that is missing, or does not have the checksum it was written with."""
    try:
        found = sha256(path)
    except FileNotFoundError:
        raise missing(path) from None
    if found != expected:
        raise UserError(
            path, f"found a file with the SHA-256 {found[:16]}… where {expected[:16]}… was written", fix=DAMAGED
        )


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file or a folder so that ``path`` holds the old content or all of the new one, never a part.

    Args:
        path: what is to be written; its parent folder is made when missing.

    Yields:
        A path beside it to write to. When the block ends well it takes the place of ``path``; when it raises,
        nothing is left behind. What a killed process leaves behind, `remove_leftovers` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch, lock = _scratch(path)
    try:
        draft = scratch / "new" / path.name
        draft.parent.mkdir()
        yield draft
        _put(draft, path, scratch / "previous")
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(path.parent).free
        raise UserError(path, f"the disk is full ({free / 1e9:.3g} GB are free)", expected="one with room") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _put(draft: Path, path: Path, previous: Path) -> None:
    """Put a draft in its place; what was there before comes back if that fails."""
    if path.is_dir():
        path.replace(previous)
    try:
        draft.replace(path)
    except OSError:
        if previous.exists():
            previous.replace(path)
        raise


LOCK = "lock"
"""File in a scratch folder that its process holds locked as long as it lives."""


def _scratch(path: Path) -> tuple[Path, int]:
    """Make a folder beside a path; return it with the descriptor of its lock."""
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=SCRATCH, dir=path.parent))
        with suppress(FileNotFoundError):  # another process swept it away before it was locked
            lock = os.open(scratch / LOCK, os.O_RDWR | os.O_CREAT)
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            if scratch.exists():
                return scratch, lock
            os.close(lock)


DEPTH = 3
"""Folders between `DATA` and the artifacts; pictures that a user unpacked may lie deeper, and are not searched."""


def remove_leftovers(*roots: Path) -> None:
    """Remove what processes that were killed left half-written below some folders.

    A folder that a live process writes to is locked by it, and stays.
    """
    for root in roots:
        for scratch in (found for depth in range(DEPTH + 1) for found in root.glob("*/" * depth + f".*{SCRATCH}")):
            if scratch.is_symlink() or not scratch.is_dir():
                continue
            with suppress(OSError):  # locked, or another process was faster
                lock = os.open(scratch / LOCK, os.O_RDWR | os.O_CREAT)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(scratch, ignore_errors=True)
                finally:
                    os.close(lock)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all; NaN and infinity are refused (`ValueError`)."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV for people to read and diff: six significant digits, empty where undefined."""
    with atomic_write(path) as draft:
        frame.to_csv(draft, index=False, lineterminator="\n", float_format="%.6g")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; a missing or unreadable one is a `UserError`."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:
        raise UserError(path, f"not valid JSON ({error})") from None


def missing(path: Path) -> UserError:
    """Return the error for an artifact that is not there."""
    return UserError(path, "there is no such file", fix="`dvc repro` makes it")
