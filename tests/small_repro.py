"""A small end-to-end run of the default grid, in a copy of the project: `python -m tests.small_repro`.

Two of the cells, a method of each kind; fewer images and steps. It runs as `make repro` does, and ends with an
error when a stage fails, a plain `dvc repro` runs anything after it, or a method has no number in the table.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.saliency.method import METHODS
from tests.world import World

CELLS = ("photos-efficientnet_lite0", "digits-resnet_mini")
METHODS_RUN = ("grad_cam", "integrated_gradients", "lime", "ablation_cam", "opti_cam", "sobel")
"""One of each kind: the tests run every method, and every stage of a cell takes seconds."""


def shrink(params: dict[str, Any]) -> dict[str, Any]:
    params["cells"] = {name: params["cells"][name] for name in CELLS}
    params["plan"] |= {"images": 3, "images_of": {}, "first": {}, "magnitudes": 1, "checkpoints": [10, 50], "layers": 2}
    params["saliency"] = {name: params["saliency"][name] for name in METHODS_RUN}
    for method in params["saliency"].values():
        method |= {"images": "all"} | {key: 4 for key in ("steps", "samples") if key in method}
    params["saliency"]["lime"]["samples"] = 30
    params["saliency"]["opti_cam"]["iterations"] = 3
    for cell in params["cells"].values():
        cell["without"] = {}
    params["datasets"]["shapes"]["images"] = 100  # of no cell, but drawn
    return params


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.set(shrink(world.params))
        world.start_dvc()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            [sys.executable, "-m", "runner", "repro"], cwd=folder, check=True, env=os.environ | {"PATH": path}
        )
        world.run(sys.executable, "-m", "warm", "stop")
        again = world.repro()
        if again:
            sys.exit(f"a second run ran {', '.join(again)}")
        with (world.root / "metrics/table1.csv").open() as file:
            lines = list(csv.DictReader(file))
        print((world.root / "metrics/table1.csv").read_text())
        # A model trained on so little may get none of the few images right: its own line is then empty, as it should.
        # Nor may a control: a flat map has no similarity, and noise may have one below zero.
        methods = [name for name in world.params["saliency"] if not METHODS[name].control]
        if len(lines) != len(CELLS) + 1 or not all(lines[-1][method] for method in methods):
            sys.exit("metrics/table1.csv lacks numbers")
        print("small repro: every stage ran once, and nothing the second time")


if __name__ == "__main__":
    main()
