"""Checksums of weights whose publisher names none: what came first is written down, and another file is an error.

`PINS` is a small file that is meant to be committed: with it, everybody who runs a grid has the same weights.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write

PINS = Path("weights.lock")
Checksums = dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]


def check_pinned(source: str, found: str) -> None:
    """Raise a `UserError` where another file of the same source was pinned.

    Args:
        source: the address or the path of the weights.
        found: their SHA-256.
    """
    pinned = _read().get(source, found)
    if pinned != found:
        raise UserError(
            source,
            f"found SHA-256 {found}",
            expected=f"{pinned} ({PINS}), the file that was used before",
            fix=f"replace the file, or remove its line from {PINS} if the new one is meant",
        )


def pin(source: str, found: str) -> None:
    """Write a checksum into `PINS`, unless it is there; several stages may do so at once."""
    with _locked():
        pinned = _read()
        if source in pinned:
            return
        with atomic_write(PINS) as draft:
            draft.write_text(json.dumps(dict(sorted({**pinned, source: found}.items())), indent=2) + "\n")


@contextmanager
def _locked() -> Iterator[None]:
    folder = os.open(PINS.parent, os.O_RDONLY)  # a lock on the file itself would be lost when it is replaced
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _read() -> Checksums:
    try:
        return TypeAdapter(Checksums).validate_json(PINS.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise UserError(
            PINS, "found no mapping of sources to SHA-256 checksums", fix=f"git restore {PINS}, or remove it"
        ) from None
