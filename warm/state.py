"""What a preloaded interpreter says about itself: a small file beside its socket, locked for as long as it lives."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import time
from typing import Any

LOADING, READY, FAILED = "loading", "ready", "failed"
LOCK = struct.Struct("hhqqi")
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
            except OSError:
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
        """Remove the file, and with it the lock."""
        os.unlink(self.file)
        os.close(self.descriptor)


def read(file: str) -> dict[str, Any] | None:
    """Return what a file says, None where there is none or it says nothing yet."""
    try:
        with open(file, encoding="utf-8") as opened:
            said: dict[str, Any] = json.load(opened)
            return said
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
    except FileNotFoundError:
        return False


def sweep(folder: str) -> None:
    """Remove what killed interpreters left behind: all files that are called as one that nobody holds."""
    for entry in os.listdir(folder):
        name, end = os.path.splitext(entry)
        file = State(os.path.join(folder, entry))
        if end == ".json" and not failed_lately(file.file) and file.take():
            if os.path.lexists(os.path.join(folder, f"{name}.sock")):
                os.unlink(os.path.join(folder, f"{name}.sock"))
            file.remove()
