"""What Great Expectations adds to a stage: `python -m benchmarks.checks [--cell NAME]`, after `make repro`.

Stages of one cell run as DVC runs them and with the suites left out, in turns, in the workspace that is there; they
write what is there already.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from benchmarks.bookkeeping import run

STAGES = {
    "score": ("--method", "grad_cam"),
    "explain": ("--method", "grad_cam"),
    "explain, a longer one": ("--method", "lime"),
    "predict": (),
}
WITHOUT = """
import runpy, sys
from pipeline.core import suites
suites.run_suite = lambda *arguments: {}
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def main() -> None:
    """Print wall-clock and CPU seconds with the suites and without, and the medians of the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default="digits-resnet_mini")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print("| stage | wall-clock s | suites | CPU s | suites |\n|---|--:|--:|--:|--:|")
    for name, own in STAGES.items():
        module = f"stages.{name.split(',')[0]}"
        if module == "stages.predict":
            own = ("--dataset", arguments.cell.split("-")[0])
        options = ("--cell", arguments.cell, *own)
        times: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
        for _ in range(arguments.repeats):
            times["with"].append(run(Path(), sys.executable, "-m", module, *options)[:2])
            times["without"].append(run(Path(), sys.executable, "-c", WITHOUT, module, *options)[:2])
        line = []
        for kind in (0, 1):
            whole = statistics.median(one[kind] for one in times["with"])
            pairs = zip(times["with"], times["without"], strict=True)
            line += [f"{whole:.2f}", f"{statistics.median(a[kind] - b[kind] for a, b in pairs):+.2f}"]
        print(f"| {name} | " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
