"""What a preloaded interpreter says about itself: a small file beside its socket, locked for as long as it lives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import time
from typing import Any

LOADING, READY, FAILED = "loading", "ready", "failed"
LOCK = struct.Struct("hhqqi4x")
"""Linux' struct flock: kind, from where, start, length, process."""
WHOLE = LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
FRESH = 600
"""Seconds for which an interpreter that could not be loaded is not tried again."""


class State:
    """The file of one interpreter. The lock is the truth: whatever the file says, without it nobody is there."""

    def __init__(self, file: str) -> None:
        """Take the path of the file."""
        self.file = file
        self.descriptor = -1

    def take(self) -> bool:
        """Lock the file, made where it is missing; say whether that worked, which it does for one process alone."""
        while True:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, WHOLE)
            except (BlockingIOError, PermissionError):
                os.close(descriptor)
                return False
            try:
                if os.path.samestat(os.fstat(descriptor), os.stat(self.file)):
                    self.descriptor = descriptor
                    return True
            except FileNotFoundError:
                pass  # another one ended and removed it in between
            os.close(descriptor)

    def say(self, **what: Any) -> None:
        """Replace what the file says."""
        text = json.dumps(what).encode()
        os.pwrite(self.descriptor, text.ljust(os.fstat(self.descriptor).st_size), 0)

    def leave(self) -> None:
        """Let go of the lock in a forked process, which shares it otherwise."""
        os.close(self.descriptor)

    def remove(self) -> None:
        """Remove the file, and with it the lock; a file of another one in its place stays."""
        try:
            if os.path.samestat(os.fstat(self.descriptor), os.stat(self.file)):
                os.unlink(self.file)
        except FileNotFoundError:
            pass
        os.close(self.descriptor)


def read(file: str) -> dict[str, Any] | None:
    """Return what a file says, None if there is none or it says nothing yet."""
    try:
        with open(file, encoding="utf-8") as opened:
            said = json.load(opened)
            return said if isinstance(said, dict) else None
    except (OSError, ValueError):
        return None


def is_held(file: str) -> bool:
    """Say whether somebody holds the lock of a file; asking takes no lock."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        held: int = LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, WHOLE))[0]
        return held != fcntl.F_UNLCK
    finally:
        os.close(descriptor)


def failed_lately(file: str) -> bool:
    """Say whether the interpreter of a file that nobody holds could not be loaded a short while ago."""
    said = read(file)
    try:
        return said is not None and said["state"] != READY and time.time() - os.stat(file).st_mtime < FRESH
    except (FileNotFoundError, KeyError):
        return False


def sweep(folder: str, prefix: str = "", *, failed: bool = False) -> None:
    """Remove state files that nobody holds, and their sockets: what killed interpreters left behind.

    Args:
        folder: of the sockets.
        prefix: what the names begin with.
        failed: remove what says that one could not be loaded as well, so that it is tried again.
    """
    for entry in os.listdir(folder):
        name, end = os.path.splitext(entry)
        state = State(os.path.join(folder, entry))
        if end != ".json" or not name.startswith(prefix) or (failed_lately(state.file) and not failed):
            continue
        if state.take():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, f"{name}.sock"))
            state.remove()
