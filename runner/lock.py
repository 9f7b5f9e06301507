"""Writing dvc.lock for many finished stages at once.

After every stage DVC reads and writes all of dvc.lock, in pure Python: about 0.2 ms per line, which is 5 s per stage
on the paper's grid. Here DVC writes the same entries to the same file, but for several stages together, and never
spends more than a given share of the time on it. Small lock files are still written after every stage.

A stage counts as finished once it is in DVC's run cache, and that is written at once. So after a SIGKILL the next run
takes the stages that are not in dvc.lock from the run cache, and runs none of them again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dvc.dvcfile import Lockfile
from dvc.repo import reproduce
from dvc.stage import Stage

SHARE = 0.1
"""Part of the time that may go into writing lock files."""
ENDING = (signal.SIGINT, signal.SIGTERM)

Write = Callable[..., None]


class Collected:
    """Finished stages whose entries are not in their lock files yet.

    Args:
        write: DVC's ``Lockfile.dump_stages``.
        share: part of the time that may go into writing; with 1 every stage is written when it has finished.
    """

    def __init__(self, write: Write, share: float) -> None:
        self.write, self.share = write, share
        self.waiting: dict[str, tuple[Lockfile, list[Stage]]] = {}
        self.due: dict[str, float] = {}

    def add(self, file: Lockfile, stages: list[Stage], **options: Any) -> None:
        """Take finished stages, and write them unless their file was written a moment ago."""
        if options:
            # Nothing in `dvc repro` passes any; whatever does wants the entries in the file.
            self.flush(file.path)
            self.write(file, stages, **options)
            return
        self.waiting.setdefault(file.path, (file, []))[1].extend(stages)
        if time.monotonic() >= self.due.get(file.path, 0):
            self.flush(file.path)

    def flush(self, *paths: str) -> None:
        """Write what waits for some lock files, or for all of them."""
        for path in paths or tuple(self.waiting):
            if path in self.waiting:
                with undisturbed():
                    start = time.monotonic()
                    self.write(*self.waiting[path])
                    del self.waiting[path]
                    end = time.monotonic()
                    self.due[path] = end + (end - start) * (1 / self.share - 1)


@contextmanager
def collected(share: float = SHARE) -> Iterator[None]:
    """Within it, `dvc repro` and `dvc exp run` write the entries of finished stages together.

    All of them are in the file when DVC's own `reproduce` returns or fails, before it lets go of its lock, and when
    the process is ended by SIGTERM; reading a lock file writes what waits for it first.
    """
    dump, load, run = Lockfile.dump_stages, Lockfile._load, reproduce._reproduce
    stages = Collected(dump, share)

    def load_written(file: Lockfile, **options: Any) -> Any:
        stages.flush(file.path)
        return load(file, **options)

    def run_and_write(*arguments: Any, **options: Any) -> Any:
        with flushed_at_sigterm(stages):
            try:
                return run(*arguments, **options)
            finally:
                stages.flush()

    Lockfile.dump_stages = lambda file, found, **options: stages.add(file, found, **options) if found else None
    Lockfile._load, reproduce._reproduce = load_written, run_and_write
    try:
        yield
    finally:
        Lockfile.dump_stages, Lockfile._load, reproduce._reproduce = dump, load, run


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def flushed_at_sigterm(stages: Collected) -> Iterator[None]:
    """Let SIGTERM end the process as it always does, but write what waits first."""

    def end(number: int, _: Any) -> None:
        stages.flush()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
