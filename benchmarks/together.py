"""Memory as rows grow, and two cells at once against one after the other.

Each cell explains in a process of its own, as under DVC. `--rounds` alternates the two ways.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.report import KEY, PROCESSES
from benchmarks.world import Ours, device_name, make_world
from pipeline.core import params
from pipeline.core.device import device, threads
from pipeline.core.errors import UserError
from pipeline.core.files import write_csv
from pipeline.saliency.method import METHODS


def _cell(model: str, side: int, images: int, methods: list[str]) -> None:
    """Explain and report, a line of JSON for each time this process is told to go on."""
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(model, side, images, Path(folder))
        cells = [
            Ours(world, name, params.read(f"saliency.{name}", METHODS[name].settings), np.arange(len(world.table)))
            for name in methods
        ]
        for _ in sys.stdin:
            start = time.perf_counter()
            for cell in cells:
                cell.stage()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            print(json.dumps({"seconds": time.perf_counter() - start, "peak_mb": peak}), flush=True)


class Cell:
    """A process that explains a cell whenever it is told to."""

    def __init__(self, model: str, side: int, images: int, methods: list[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.together", "--cell", model, str(side), str(images), *methods]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.start()
        self.finish()  # warm

    def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()


def two_at_once(model: str, side: int, images: int, methods: list[str], *, rounds: int) -> list[float]:
    """Return, for each round, the time of two cells at once as a multiple of one after the other."""
    cells = [Cell(model, side, images, methods) for _ in range(2)]
    ratios = []
    for _ in range(rounds):
        start = time.perf_counter()
        for cell in cells:
            cell.start()
            cell.finish()
        after = time.perf_counter() - start
        start = time.perf_counter()
        for cell in cells:
            cell.start()
        for cell in cells:
            cell.finish()
        ratios.append((time.perf_counter() - start) / after)
    for cell in cells:
        cell.end()
    return ratios


def peak(model: str, side: int, images: int, methods: list[str]) -> float:
    """Return the greatest memory, in MB, of a process that explains a cell."""
    cell = Cell(model, side, images, methods)
    cell.start()
    found = cell.finish()["peak_mb"]
    cell.end()
    return float(found)


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="+", default=["resnet_mini", "xcit_mini"])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=4, help="pictures explained, 22 rows each; ten times as many too")
    parser.add_argument("--methods", nargs="+", default=["grad_cam", "integrated_gradients", "smooth_grad"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.cell:
        model, side, images, *methods = arguments.cell
        return _cell(model, int(side), int(images), methods)
    lines = []
    for model in arguments.models:
        shared = dict(zip(KEY, (model, arguments.image_size, device_name(device()), threads(), 1.0), strict=True))
        size = (arguments.image_size, arguments.images, arguments.methods)
        ratios = two_at_once(model, *size, rounds=arguments.rounds)
        few, many = peak(model, *size), peak(model, size[0], 10 * size[1], size[2])
        line = {
            "at_once_over_in_turn": float(np.median(ratios)),
            "fastest": min(ratios),
            "slowest": max(ratios),
            "peak_mb": few,
            "peak_mb_tenfold_rows": many,
        }
        lines.append(shared | line)
        print(
            f"{model}: two cells at once take {np.median(ratios):.2f} times one after the other ({min(ratios):.2f} "
            f"to {max(ratios):.2f}); {few:.0f} MB, with ten times the rows {many:.0f} MB",
            flush=True,
        )
    table = pd.DataFrame(lines)
    if PROCESSES.exists():
        old = pd.read_csv(PROCESSES)
        table = pd.concat([old[~old[KEY].apply(tuple, axis=1).isin(set(table[KEY].apply(tuple, axis=1)))], table])
    write_csv(PROCESSES, table)
    report.write()
    return None


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
