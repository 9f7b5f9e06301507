"""Writing dvc.lock for several finished stages at once.

After every stage DVC reads and writes all of dvc.lock, in pure Python, which takes seconds per stage on the paper's
grid (docs/benchmarks.md). Here DVC writes the same entries to the same file, but for several stages together, so that
about a tenth of the time goes into it. Where stages take ten times as long as a write, each is still written when it
has finished.

Until then a finished stage is in DVC's run cache: after a SIGKILL the next run takes it from there without running
it. With ``--no-commit``, where nothing goes into the run cache, nothing is put off; and aggregate, which DVC keeps out
of it for its outputs of ``cache: false``, is the last stage anyway. While a run goes on, `dvc push`, `dvc gc` and
`dvc commit` in another terminal do not know of the stages that wait.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dvc.dvcfile import Lockfile
from dvc.repo import reproduce
from dvc.stage import Stage

SHARE = 0.1
"""Part of the time that goes into writing lock files, about."""
ENDING = (signal.SIGINT, signal.SIGTERM)

Write = Callable[..., None]


class Collected:
    """Finished stages whose entries are not in their lock files yet.

    Args:
        write: DVC's ``Lockfile.dump_stages``.
        share: part of the time that goes into writing, about; with 1 every stage is written when it has finished.
    """

    def __init__(self, write: Write, share: float) -> None:
        self.write, self.share = write, share
        self.waiting: dict[str, tuple[Lockfile, list[Stage]]] = {}
        self.due: dict[str, float] = {}
        self.lock = threading.RLock()  # a signal's handler flushes in the main thread while another one writes

    def add(self, file: Lockfile, stages: list[Stage], **options: Any) -> None:
        """Take finished stages, and write them unless their file was written a moment ago."""
        if options:
            # Nothing in `dvc repro` passes any; whatever does wants the entries in the file.
            self.flush(file.path)
            self.write(file, stages, **options)
            return
        with self.lock:
            self.waiting.setdefault(file.path, (file, []))[1].extend(stages)
            if time.monotonic() >= self.due.get(file.path, 0):
                self.flush(file.path)

    def flush(self, *paths: str) -> None:
        """Write what waits for some lock files, or for all of them."""
        with self.lock:
            for path in paths or tuple(self.waiting):
                if path in self.waiting:
                    self._write(path)

    def _write(self, path: str) -> None:
        file, stages = self.waiting[path]
        with undisturbed(), locked(file.repo.lock):
            start = time.monotonic()
            self.write(file, stages)
            del self.waiting[path]
            end = time.monotonic()
        self.due[path] = end + (end - start) * (1 / self.share - 1)


@contextmanager
def collected(share: float = SHARE) -> Iterator[None]:
    """Within it, `dvc repro` writes the entries of finished stages together.

    All of them are in the file when DVC's own `reproduce` returns or fails, and when the process is ended by SIGTERM;
    whatever reads a lock file in this process writes what waits for it first. Other commands of DVC write as always.
    """
    dump, load, run = Lockfile.dump_stages, Lockfile._load, reproduce._reproduce
    stages, collecting = Collected(dump, share), False

    def add(file: Lockfile, found: list[Stage], **options: Any) -> None:
        if collecting and found:
            stages.add(file, found, **options)
        else:
            dump(file, found, **options)

    def load_written(file: Lockfile, **options: Any) -> Any:
        stages.flush(file.path)
        return load(file, **options)

    def run_and_write(*arguments: Any, **options: Any) -> Any:
        nonlocal collecting
        collecting = not options.get("no_commit")
        with flushed_at_sigterm(stages):
            try:
                return run(*arguments, **options)
            finally:
                collecting = False
                stages.flush()

    Lockfile.dump_stages, Lockfile._load, reproduce._reproduce = add, load_written, run_and_write
    try:
        yield
    finally:
        Lockfile.dump_stages, Lockfile._load, reproduce._reproduce = dump, load, run


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the end.

    Not by a mask of signals, which holds for one thread alone: Python would still run the handlers here. In another
    thread than the main one there is nothing to put off: handlers run in the main thread, which waits for the writing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)


@contextmanager
def locked(lock: Any) -> Iterator[None]:
    """Hold DVC's lock of the repository, which it lets go of while the command of a stage runs."""
    if lock.is_locked:
        yield
    else:
        with lock:
            yield


@contextmanager
def flushed_at_sigterm(stages: Collected) -> Iterator[None]:
    """Let SIGTERM end the process as it always does, but write what waits first."""

    def end(number: int, _: Any) -> None:
        try:
            stages.flush()
            print("error: ended by SIGTERM; the same command goes on", file=sys.stderr, flush=True)
        finally:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
