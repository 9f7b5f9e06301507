"""Checksums of weights whose publisher names none: what came first is written down, and another file is an error.

`PINS` is a small file that is meant to be committed: with it, everybody who runs a grid has the same weights. It has
the form of `sha256sum`: a checksum, two spaces and the source per line.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.files import DATA, atomic_write

PINS = Path("weights.lock")
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def check_pinned(source: str, found: str) -> None:
    """Raise a `UserError` if another file of the same source was pinned.

    Args:
        source: the address or the path of the weights.
        found: their SHA-256.
    """
    _compare(_read(), source, found)


def pin(source: str, found: str) -> None:
    """Write a checksum into `PINS`, unless it is there; several stages may do so at once.

    Raises:
        UserError: another file of the same source was pinned, perhaps a moment ago by another stage.
    """
    with _locked():
        pinned = _read()
        _compare(pinned, source, found)
        if source in pinned:
            return
        lines = [f"{checksum}  {name}\n" for name, checksum in sorted({**pinned, source: found}.items())]
        with atomic_write(PINS) as draft:
            draft.write_text("".join(lines), encoding="utf-8")


def _compare(pinned: dict[str, str], source: str, found: str) -> None:
    known = pinned.get(source, found)
    if known != found:
        raise UserError(
            source,
            f"found SHA-256 {found}",
            expected=f"{known} ({PINS}), the file that was used before",
            fix=f"replace the file, or remove its line from {PINS} if the new one is meant",
        )


@contextmanager
def _locked() -> Iterator[None]:
    # A lock on the file itself would be lost when the file is replaced.
    place = PINS.parent / DATA / f"{PINS.name}.tmp"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as file:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read() -> dict[str, str]:
    try:
        lines = PINS.read_bytes().decode("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise UserError(
            PINS, f"not UTF-8 text ({error.reason} at byte {error.start})", fix=f"git restore {PINS}"
        ) from None
    pinned: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        found = LINE.fullmatch(line)
        if found is None:
            raise UserError(
                f"{PINS}: line {number}",
                f"found {line[:100]!r}",
                expected="a SHA-256 checksum, two spaces and a source",
            )
        if found[2] in pinned:
            raise UserError(
                f"{PINS}: line {number}", f"found {found[2][:100]} a second time", expected="each source once"
            )
        pinned[found[2]] = found[1]
    return pinned
