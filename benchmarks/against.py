"""The speed of this checkout's explain and score stages, compared with another revision's.

``python -m benchmarks.against REVISION`` checks the revision out into a temporary folder and keeps a process in each.
The two take turns on the same rows, so that a noisy machine disturbs both alike. Printed is this checkout's time over
the other's: the median over the rounds, and the quartiles.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Measure, and print a line per method and one for scoring."""
    parser = argparse.ArgumentParser(description="Compare the speed of two revisions.")
    parser.add_argument("revision", help="anything that git knows")
    parser.add_argument("--model", default="resnet_mini", help="a model of params.yaml")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=8, help="each has 22 rows")
    parser.add_argument("--methods", nargs="+", default=["grad_cam", "integrated_gradients", "smooth_grad"])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    given = json.dumps([options.model, options.image_size, options.images, options.methods])
    with tempfile.TemporaryDirectory(prefix="cose-") as scratch:
        other = Path(scratch, "other")
        named = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{options.revision}^{{commit}}"]
        commit = subprocess.run(named, cwd=ROOT, capture_output=True, text=True).stdout.strip()
        if not commit:
            sys.exit(f"error: revision: found {options.revision!r}, which git does not know; allowed: a commit")
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(other)], check=True)
        subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=other, check=True)
        # The file of this checkout runs in both: the other may be older than it.
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, "--serve", given],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for folder in (ROOT, other)
        ]
        for what in [*options.methods, "score"]:
            times = np.array([_taken(workers, what, turn) for turn in range(options.rounds + 1)])[1:]
            low, median, high = np.quantile(times[:, 0] / times[:, 1], [0.25, 0.5, 0.75])
            here, there = np.median(times, axis=0)
            print(
                f"{what:22s} {median:.3f} ({low:.3f} to {high:.3f}); {here:.3g} ms here, {there:.3g} ms there",
                flush=True,
            )
        for worker in workers:
            worker.communicate()


def _taken(workers: list[Any], what: str, turn: int) -> tuple[float, float]:
    """Return what each worker takes; which comes first alternates."""
    if turn % 2:
        there, here = (_ask(worker, what) for worker in reversed(workers))
    else:
        here, there = (_ask(worker, what) for worker in workers)
    return here, there


def _ask(worker: Any, what: str) -> float:
    worker.stdin.write(f"{what}\n")
    worker.stdin.flush()
    said = worker.stdout.readline()
    if not said:
        sys.exit("error: a process that measures has ended; what it said is above")
    return float(said)


def serve(given: str) -> None:
    """Answer each line on stdin, a method's name or ``score``, with the milliseconds that it takes in this checkout."""
    from benchmarks.floor import timed
    from benchmarks.world import Ours, make_world
    from pipeline.core import params
    from pipeline.metrics.map_pairs import score_rows
    from pipeline.metrics.similarity import SimilaritySettings
    from pipeline.saliency.map_file import Maps, MapsWriter
    from pipeline.saliency.method import METHODS

    name, side, images, methods = json.loads(given)
    with tempfile.TemporaryDirectory(prefix="cose-") as folder:
        world = make_world(name, side, images, Path(folder))
        world.model.requires_grad_(False)
        count = len(world.table)
        work = {}
        for method in methods:
            settings = params.read(f"saliency.{method}", METHODS[method].settings)
            work[method] = Ours(world, method, settings, np.arange(count)).stage
        path, rng = Path(folder, "scored.npy"), np.random.default_rng(0)
        with MapsWriter(path, "float16", count) as writer:
            for at in range(count):
                writer.write(np.array([at]), rng.random((1, side, side)) ** 2)
        compared = SimilaritySettings(window=5, validity="whole")

        # Before there were digests, the number of maps was all that opening them took.
        digests = "index" in inspect.signature(Maps).parameters
        known = (writer.described().assign(row=range(count)), "unit", side) if digests else (count,)

        def score() -> Any:
            return score_rows(world.table, Maps(path, *known), "unit", side, settings=compared)

        work["score"] = score
        device = world.model.mean.device
        for line in sys.stdin:
            print(timed(work[line.strip()], device)[0], flush=True)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["--serve"] else main()
