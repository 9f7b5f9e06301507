"""The preloaded interpreter: `python -m warm.server NAME`, started by the first stage that finds none."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from warm import child, place, third_party
from warm.keeper import keep, wake_on_child
from warm.state import FAILED, LOADING, READY, State, sweep
from warm.wire import user_of

IDLE = 60.0
"""Seconds without a stage after which it ends."""
LOOK = 1.0
"""Minimum seconds between two looks at the files of all modules; they take some milliseconds."""
ROOT = Path(place.ROOT)
Stamp = tuple[int, ...] | None
"""What tells a file from a changed one; None if there is none."""


class EndedError(BaseException):
    """Somebody has asked this process to end."""


class UnfitError(Exception):
    """This process must not be forked; the message says why."""


def main() -> None:
    """Load, serve, and leave nothing behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--idle", type=float, default=IDLE)
    arguments = parser.parse_args()
    _reset_signals()
    folder = place.folder()
    state = State(os.path.join(folder, f"{arguments.name}.json"))
    if not state.take():
        return  # another one was faster
    about: dict[str, Any] = {"process": os.getpid(), "workspace": place.ROOT, "python": sys.executable}
    path = os.path.join(folder, f"{arguments.name}.sock")
    stays = False
    try:
        sweep(folder)
        state.say(**about, state=LOADING)
        start, files = time.monotonic(), Files()
        load()
        files.add_modules()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of one that was killed
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(128)
            about |= {"state": READY, "loading": round(time.monotonic() - start, 1)}
            serve(listener, files, state, about, idle=arguments.idle)
    except EndedError:
        pass
    except Exception as error:
        reason = str(error) if isinstance(error, UnfitError) else f"{type(error).__name__}: {error}"
        state.say(**about | {"state": FAILED, "reason": " ".join(reason.split())})
        stays = True  # so that it is not tried again at once
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if not stays:
            state.remove()


def _reset_signals() -> None:
    """Begin with Python's own handling of signals, whatever the stage that started this process ignores or blocks."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end(*_: Any) -> None:
        raise EndedError

    signal.signal(signal.SIGTERM, end)


def load() -> None:
    """Import what the project's code imports, and nothing of the project.

    Raises:
        UnfitError: something has started a thread or opened a GPU, neither of which a fork takes along.
    """
    # Arrow's allocator starts a thread in the background when it is loaded.
    said = os.environ.get("JE_ARROW_MALLOC_CONF")
    os.environ["JE_ARROW_MALLOC_CONF"] = ",".join(filter(None, [said, "background_thread:false"]))
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # as `pipeline.core.suites` has it, and read at import too
    before = dict(os.environ)
    gc.disable()
    for module, name in third_party.imported(ROOT):
        third_party.load(module, name)
        check_fit(f"importing {module}")
    child.imported_variables.update({name: value for name, value in os.environ.items() if name not in before})
    sys.stdout.flush()  # or each child would print what an import has printed
    sys.stderr.flush()
    gc.collect()
    gc.freeze()  # a collection in a child would copy the pages that it shares


def check_fit(what: str) -> None:
    """Look for threads and open GPUs.

    Raises:
        UnfitError: there are some, after ``what``.
    """
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise UnfitError(f"{what} starts threads: found {threads}; allowed: one, because a fork takes along no other")
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if target.startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri")):
                raise UnfitError(f"{what} opens {target}; allowed: no GPU, because a forked process cannot use it")


class Files:
    """The files that a preloaded interpreter depends on, as they were before it loaded them."""

    def __init__(self) -> None:
        """Take the workspace, its lock file, and the interpreter with its folders of packages."""
        packages = {part for part in sys.path if part.endswith(("site-packages", "dist-packages"))}
        own = {ROOT, ROOT / "requirements.lock", Path(sys.prefix) / "pyvenv.cfg", Path(sys.executable)}
        self.start = time.time_ns()
        self.few = {path: _stamp(path) for path in {*packages, *map(str, own)}}
        self.modules: dict[str, Stamp] = {}
        self.seen = 0.0
        self.changed = False

    def add_modules(self) -> None:
        """Take the files of all modules that are loaded now; one written meanwhile may not be what was loaded."""
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        self.modules = {path: _stamp(path) for path in filter(None, files)}
        self.seen = time.monotonic()
        self.changed = any(stamp is not None and stamp[-1] >= self.start for stamp in self.modules.values())

    def have_changed(self) -> bool:
        """Say whether any of them has changed: few are always looked at, modules if they were not a moment ago."""
        if time.monotonic() - self.seen >= LOOK and not self.changed:
            self.changed = any(_stamp(path) != stamp for path, stamp in self.modules.items())
            self.seen = time.monotonic()
        return self.changed or self.packages_have_changed()

    def packages_have_changed(self) -> bool:
        """Say whether the workspace, its lock file, the interpreter or the list of packages has changed."""
        self.changed |= any(_stamp(path) != stamp for path, stamp in self.few.items())
        return self.changed


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    if path == place.ROOT:
        return (found.st_dev, found.st_ino)  # what is in the workspace may change
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def serve(listener: socket.socket, files: Files, state: State, about: dict[str, Any], *, idle: float) -> None:
    """Fork a keeper for every client, until there has been none for ``idle`` seconds or a file has changed."""
    woken = wake_on_child()
    running: set[int] = set()
    served, last = 0, time.monotonic()
    os.chdir("/")
    listener.setblocking(False)
    while not files.have_changed():
        state.say(**about, served=served)
        ready = select.select([listener.fileno(), woken], [], [], min(2 * LOOK, idle))[0]
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 64)
        running -= set(_ended(running))
        if running or listener.fileno() in ready:
            last = time.monotonic()
        elif time.monotonic() - last >= idle:
            return
        # Modules take too long to look at while a client waits; they were not long ago.
        if listener.fileno() not in ready or files.packages_have_changed():
            continue
        try:
            connection, _ = listener.accept()
        except OSError:
            time.sleep(0.05)  # the client is gone again, or there are too many files open
            continue
        with connection:
            if user_of(connection) != os.getuid():
                continue
            check_fit("a stage")
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # the keeper must not end as this process does
            try:
                keeper = os.fork()
                if keeper == 0:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    for descriptor in (listener.detach(), woken, signal.set_wakeup_fd(-1)):
                        os.close(descriptor)
                    state.leave()
                    keep(connection)
            except OSError:
                continue  # no memory: the client finds the connection closed and runs the stage itself
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            running.add(keeper)
            served += 1


def _ended(running: set[int]) -> list[int]:
    return [one for one in running if os.waitpid(one, os.WNOHANG)[0]]


if __name__ == "__main__":
    main()
