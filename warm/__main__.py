"""Show and stop preloaded interpreters: `python -m warm status` and `python -m warm stop`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from typing import Any

from warm import place, state

PATIENCE = 5.0
"""Seconds to wait for one to end."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m warm", description=__doc__)
    parser.add_argument("command", choices=("status", "stop"), help="status: of all; stop: end those of this workspace")
    command = parser.parse_args().command
    if sys.platform != "linux":
        print("no preloaded interpreter: only Linux has what it needs")
        return
    try:
        folder = place.folder()
    except OSError as error:
        sys.exit(f"error: {error}")
    if command == "stop":
        stop(folder)
    else:
        for line in status(folder):
            print(line)


def status(folder: str) -> list[str]:
    """Return a line for each preloaded interpreter of this user, those of this workspace first."""
    lines = []
    own = f"{place.workspace()}-"
    for file in sorted(_files(folder), key=lambda file: (not os.path.basename(file).startswith(own), file)):
        said = state.read(file)
        if said is None:
            continue
        with contextlib.suppress(FileNotFoundError, KeyError):  # it has just ended, or never said much
            lines += _lines(file, said)
    return lines or ["no preloaded interpreter; the next stage starts one (COSE_WARM=0 for none)"]


def _lines(file: str, said: dict[str, Any]) -> list[str]:
    where = said["workspace"]
    if not state.is_held(file):
        reason = said.get("reason", "it died")
        return [f"{where}: could not be loaded: {reason}"] if state.failed_lately(file) else []
    if said["state"] == state.LOADING:
        return [f"{where}: process {said['process']} is loading"]
    return [
        f"{where}: process {said['process']}, loaded in {said['loading']} s, {said['served']} stages so far, "
        f"{_running(said['process'])} now, {_megabytes(said['process'])} MB, ends after a minute without one"
    ]


def stop(folder: str) -> None:
    """End the preloaded interpreters of this workspace; stages that run go on."""
    own = f"{place.workspace()}-"
    end = time.monotonic() + PATIENCE
    asked = set()
    while held := [file for file in _files(folder) if os.path.basename(file).startswith(own) and state.is_held(file)]:
        if time.monotonic() > end:
            sys.exit(f"error: {held[0]}: its process did not end within {PATIENCE:g} seconds")
        for file in held:
            process = (state.read(file) or {}).get("process")
            if process is not None and process not in asked:
                asked.add(process)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
        time.sleep(0.02)
    state.sweep(folder, own, failed=True)


def _files(folder: str) -> list[str]:
    return [os.path.join(folder, entry) for entry in sorted(os.listdir(folder)) if entry.endswith(".json")]


def _running(process: int) -> int:
    with open(f"/proc/{process}/task/{process}/children") as file:
        return len(file.read().split())


def _megabytes(process: int) -> int:
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000


if __name__ == "__main__":
    main()
