"""Continuing after a run was killed, with the same command and no repair by hand.

DVC rewrites dvc.lock and the list of its locks in place, so a SIGKILL at the wrong moment leaves half of a file that
DVC refuses from then on. Here those files are written beside their place and moved there, which a killed process does
whole or not at all, and a copy of the last good dvc.lock is kept for the case that another program of DVC was killed.
Stages that finished after that copy are in DVC's run cache, and are taken from there without running.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zc.lockfile
from dvc.utils.serialize import _common

from pipeline.core.files import DATA, METRICS, remove_leftovers

LOCK = Path("dvc.lock")
TEMPORARY = Path(".dvc/tmp")
KEPT = TEMPORARY / "cose/dvc.lock"
"""The last good dvc.lock."""
BROKEN = TEMPORARY / "cose/dvc.lock.broken"
RWLOCK = TEMPORARY / "rwlock"
"""DVC's list of what its processes read and write."""


def mend() -> None:
    """Repair what a killed run left behind in this workspace, and report it in a line on stderr."""
    if not TEMPORARY.is_dir():
        return
    try:
        held = zc.lockfile.LockFile(str(TEMPORARY / "lock"))
    except zc.lockfile.LockError:  # another process of DVC is at work, and will say so
        return
    try:
        remove_leftovers(DATA, METRICS)
        for file in TEMPORARY.glob(f"*{UNFINISHED}"):
            file.unlink(missing_ok=True)
        if RWLOCK.exists() and not _is_json(RWLOCK):
            RWLOCK.unlink()
            _say(f"{RWLOCK}: removed what a killed run left of it")
        if LOCK.is_file():
            _mend_lock()
    finally:
        held.close()


def _mend_lock() -> None:
    """Keep a copy of a good dvc.lock; replace a broken one by the last good one."""
    content = LOCK.read_bytes()
    if KEPT.is_file() and KEPT.read_bytes() == content:
        return
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    if is_good(content):
        _write(KEPT, content)
        return
    _write(BROKEN, content)
    for where, found in (("the copy of the last run", _kept()), ("the committed one", _committed())):
        if found is not None and is_good(found):
            _write(LOCK, found)
            _say(f"{LOCK}: a killed run left it broken; restored {where} ({BROKEN} has what was left)")
            return
    LOCK.unlink()
    _say(
        f"{LOCK}: a killed run left it broken, and there is no good copy; {BROKEN} has what was left, and what "
        "DVC's run cache knows is not run again"
    )


def is_good(content: bytes) -> bool:
    """Say whether DVC takes a file's content for a lock file."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(content.decode(), str(LOCK)))
    except (Invalid, _common.ParseError, ValueError):
        return False
    return True


def _kept() -> bytes | None:
    return KEPT.read_bytes() if KEPT.is_file() else None


def _committed() -> bytes | None:
    try:
        shown = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True)
    except OSError:  # no git
        return None
    return shown.stdout if shown.returncode == 0 else None


def _is_json(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except ValueError:
        return False


def _say(what: str) -> None:
    print(f"note: {what}", file=sys.stderr, flush=True)


UNFINISHED = ".cose-unfinished"


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    draft = TEMPORARY / f"{path.name}-{os.getpid()}{UNFINISHED}"
    draft.write_bytes(content)
    draft.replace(path)


@contextmanager
def written_whole() -> Iterator[None]:
    """Within it, DVC's YAML files (dvc.lock among them) are written whole or not at all, and dvc.lock is kept aside."""
    in_place = _common._dump_data

    def dump(path: Any, data: Any, dumper: Any, fs: Any = None, **options: Any) -> None:
        target = Path(os.fspath(path))
        if (fs is not None and fs.protocol != "local") or not TEMPORARY.is_dir():
            in_place(path, data, dumper=dumper, fs=fs, **options)
            return
        draft = TEMPORARY.resolve() / f"{target.name}-{os.getpid()}{UNFINISHED}"
        with draft.open("w+", encoding="utf-8") as file:
            dumper(data, file, **options)
        try:
            draft.replace(target)
        except OSError:  # another disk
            shutil.move(draft, target)
        if target.resolve() == LOCK.resolve():
            with contextlib.suppress(OSError):
                KEPT.parent.mkdir(parents=True, exist_ok=True)
                _write(KEPT, target.read_bytes())

    _common._dump_data = dump
    try:
        yield
    finally:
        _common._dump_data = in_place
