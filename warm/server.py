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

from warm import place, third_party
from warm.keeper import keep, wake_on_child
from warm.state import FAILED, LOADING, READY, State, sweep
from warm.wire import user_of

IDLE = 60.0
"""Seconds without a stage after which it ends."""
LOOK = 1.0
"""Least seconds between two looks at the files that it depends on; they take some milliseconds."""
ROOT = Path(place.ROOT)


class UnfitError(Exception):
    """This process must not be forked; the message says why."""


def main() -> None:
    """Load, serve, and leave nothing behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--idle", type=float, default=IDLE)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
            serve(listener, files, state, about, arguments.idle)
    except UnfitError as error:
        state.say(**about, state=FAILED, reason=str(error))
        stays = True  # so that it is not tried again at once
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if not stays:
            state.remove()


def load() -> None:
    """Import what the project's code imports, and nothing of the project.

    Raises:
        UnfitError: something has started a thread or opened a GPU, neither of which a fork takes along.
    """
    # Arrow's allocator starts a thread in the background when it is loaded.
    said = os.environ.get("JE_ARROW_MALLOC_CONF")
    os.environ["JE_ARROW_MALLOC_CONF"] = ",".join(filter(None, [said, "background_thread:false"]))
    gc.disable()
    for module, name in third_party.imported(ROOT):
        third_party.load(module, name)
        check_fit(f"importing {module}")
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
        self.were = {path: _stamp(path) for path in {*packages, *map(str, own)}}
        self.seen = time.monotonic()
        self.changed = False

    def add_modules(self) -> None:
        """Take the files of all modules that are loaded now."""
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        self.were |= {path: _stamp(path) for path in filter(None, files)}

    def have_changed(self) -> bool:
        """Say whether any of them has changed, as it was a moment ago if they were looked at then."""
        if time.monotonic() - self.seen >= LOOK and not self.changed:
            self.changed = any(_stamp(path) != stamp for path, stamp in self.were.items())
            self.seen = time.monotonic()
        return self.changed


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    if path == place.ROOT:
        return (found.st_dev, found.st_ino)  # what is in the workspace may change
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def serve(listener: socket.socket, files: Files, state: State, about: dict[str, Any], idle: float) -> None:
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
        if listener.fileno() not in ready or files.have_changed():
            continue
        try:
            connection, _ = listener.accept()
        except OSError:
            continue  # the client is gone again
        with connection:
            if user_of(connection) != os.getuid():
                continue
            check_fit("a stage")
            try:
                keeper = os.fork()
            except OSError:
                continue  # no memory: the client finds the connection closed and runs the stage itself
            if keeper == 0:
                for descriptor in (listener.detach(), woken, signal.set_wakeup_fd(-1)):
                    os.close(descriptor)
                state.leave()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                keep(connection)
            running.add(keeper)
            served += 1


def _ended(running: set[int]) -> list[int]:
    return [one for one in running if os.waitpid(one, os.WNOHANG)[0]]


if __name__ == "__main__":
    main()
