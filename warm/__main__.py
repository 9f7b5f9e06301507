"""See and end preloaded interpreters: `python -m warm status` and `python -m warm stop`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

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
        where = said["workspace"]
        if not state.is_held(file):
            if state.failed_lately(file):
                lines.append(f"{where}: could not be loaded: {said.get('reason', 'it died')}")
        elif said["state"] == state.LOADING:
            lines.append(f"{where}: process {said['process']} is loading")
        else:
            lines.append(
                f"{where}: process {said['process']}, loaded in {said['loading']} s, {said['served']} stages so far, "
                f"{_running(said['process'])} now, {_megabytes(said['process'])} MB, ends after a minute without one"
            )
    return lines or ["no preloaded interpreter; the next stage starts one (COSE_WARM=0 for none)"]


def stop(folder: str) -> None:
    """End the preloaded interpreters of this workspace; stages that run go on."""
    own = [file for file in _files(folder) if os.path.basename(file).startswith(f"{place.workspace()}-")]
    for file in own:
        said = state.read(file)
        if said is not None and state.is_held(file):
            os.kill(said["process"], signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    while any(state.is_held(file) for file in own) and time.monotonic() < end:
        time.sleep(0.02)
    for file in own:
        if os.path.exists(file) and not state.is_held(file):
            os.unlink(file)  # of one that failed or was killed


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
