"""How fast are maps measured, against the machine and against measuring one picture at a time?

For each family of faithfulness metrics, alternating in one process: the metric as its definition reads, one map and one
picture a forward pass at a time (`one by one`: grad-cam's own ROAD, and plain loops as RISE's code has them for
insertion and deletion), and the measuring of the faithfulness stage (`ours`) on the same maps. The *floor* is the
forward passes that the metric needs times the best time of one here (`benchmarks.floor`); efficiency is floor / ours.
Everything counts that lies between maps and values: ranking, masking, blurring, ROAD's linear systems.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torchvision.transforms.functional import gaussian_blur

from benchmarks import report
from benchmarks.floor import Floor, timed
from benchmarks.report import FAITHFULNESS, FAITHFULNESS_KEY
from benchmarks.world import LARGE, SEED, World, device_name, make_world
from pipeline.core import params
from pipeline.core.device import threads
from pipeline.core.errors import UserError
from pipeline.core.files import write_csv
from pipeline.core.params import Settings
from pipeline.core.tables import lines_of
from pipeline.metrics.faithfulness.measure import measure_rows, references
from pipeline.metrics.faithfulness.metric import METRICS
from pipeline.models.states import States

PERCENTS = [20, 40, 60, 80]
STEPS, KERNEL, SIGMA = 28, 51, 5.0
FAMILIES: dict[str, dict[str, dict[str, Any]]] = {
    "masking": {name: {"masked": "picture"} for name in ("average_drop", "average_gain", "average_increase")},
    "insertion": {"insertion": {"steps": STEPS, "kernel": KERNEL, "sigma": SIGMA}},
    "deletion": {"deletion": {"steps": STEPS, "fill": "black"}},
    "ROAD": {"road_combined": {"percents": PERCENTS, "noise": 0.01}},
    "infidelity": {"infidelity": {"samples": 28, "noise": 0.1}},
}
"""What is measured together, with settings for 224 pixels."""
NEEDED = {"masking": 2, "insertion": STEPS + 1, "deletion": STEPS + 1, "ROAD": 2 * len(PERCENTS), "infidelity": 29}
"""Forward passes that the definitions ask for; we may make more."""
CELLS = 14
"""Side of the maps before they are enlarged, as a class activation map has it."""

Maps = npt.NDArray[np.float32]
OneByOne = Callable[[World, pd.DataFrame, Maps], list[float]]


def road_one_by_one(world: World, rows: pd.DataFrame, maps: Maps) -> list[float]:
    """Score each map with grad-cam's ROAD."""
    road, scores = ROADCombined(PERCENTS), []
    for row, one in zip(lines_of(rows), maps, strict=True):
        images = world.model.normalize(world.pictures[int(row.image)][None])
        target = ClassifierOutputSoftmaxTarget(int(row.prediction))
        scores.append(float(road(images, one[None], [target], world.model)[0]))
    return scores


def curve_one_by_one(world: World, rows: pd.DataFrame, maps: Maps, *, inserted: bool) -> list[float]:
    """Score each map with a plain loop: one picture a step."""
    areas = []
    for row, one in zip(lines_of(rows), maps, strict=True):
        picture = world.pictures[int(row.image)][None]
        images, black = world.model.normalize(picture), world.model.normalize(np.zeros_like(picture))
        blurred = gaussian_blur(images, [KERNEL, KERNEL], [SIGMA, SIGMA]) if inserted else images
        start, end = (blurred, images) if inserted else (images, black)
        order = np.argsort(-one.ravel(), kind="stable")
        pixels = -(-order.size // STEPS)
        changed, scores = start.flatten(2).clone(), []
        for last in range(0, order.size + pixels, pixels):
            changed[:, :, order[:last]] = end.flatten(2)[:, :, order[:last]]
            with torch.no_grad():
                scores.append(world.model(changed.view_as(images)).softmax(dim=1)[0, int(row.prediction)].item())
        areas.append(float(np.trapezoid(scores)) / (len(scores) - 1))
    return areas


ONE_BY_ONE: dict[str, OneByOne] = {
    "ROAD": road_one_by_one,
    "insertion": lambda *arguments: curve_one_by_one(*arguments, inserted=True),
    "deletion": lambda *arguments: curve_one_by_one(*arguments, inserted=False),
}


def measure(world: World, family: str, floor: Floor, few: int, *, repeats: int) -> dict[str, Any]:
    """Measure one family in both ways, and the floor, alternating.

    Args:
        world: see `benchmarks.world.make_world`.
        family: a key of `FAMILIES`.
        floor: of evaluations.
        few: maps that are measured one by one; all images have one that is measured by us.
        repeats: how often, after a round that warms up.

    Returns:
        A line of the table, without what lines share.
    """
    settings: dict[str, Settings] = {
        name: METRICS[name].settings.model_validate(own) for name, own in FAMILIES[family].items()
    }
    rows = world.table.iloc[references(world.table)].reset_index(drop=True)
    coarse = np.random.default_rng(0).random((len(rows), CELLS, CELLS)).astype(np.float32)
    large = torch.nn.functional.interpolate(torch.from_numpy(coarse)[:, None], world.side, mode="bilinear")[:, 0]
    maps: Maps = large.numpy()
    states = States(world.model, world.folder, world.side)
    forward = NEEDED[family]
    theirs: list[float] = []
    times: dict[str, list[float]] = {"floor": [], "ours": [], "one": []}
    for repeat in range(repeats + 1):
        taken = {"floor": forward * floor.now("forward")}
        torch.set_num_threads(threads())
        if family in ONE_BY_ONE:
            world.load("trained")  # as the libraries have it: nothing is folded
            spent, theirs = timed(lambda: ONE_BY_ONE[family](world, rows.head(few), maps[:few]), world.device)
            taken["one"] = spent / few
            world.model.requires_grad_(False)
        spent, table = timed(
            lambda: measure_rows(settings, states, rows, world.pictures, maps=list(maps), values="unit", seed=SEED),
            world.device,
        )
        taken["ours"] = spent / len(rows)
        if repeat:
            for way, value in taken.items():
                times[way].append(value)
    ours = table.loc[table["at"].isna(), "value"].head(few).to_numpy(np.float64)  # of the first metric
    medians = {way: float(np.median(values)) for way, values in times.items() if values}
    return {
        "family": family,
        "forward": forward,
        "maps": len(rows),
        "ms_per_map": medians["ours"],
        "fastest": min(times["ours"]),
        "slowest": max(times["ours"]),
        "floor_ms": medians["floor"],
        "efficiency": medians["floor"] / medians["ours"],
        "one_by_one_ms": medians.get("one"),
        "ratio": medians["one"] / medians["ours"] if "one" in medians else None,
        "max_abs_diff": float(np.abs(ours - theirs).max()) if theirs else None,
    }


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=["efficientnet_lite0"], help="of params.yaml, or: " + ", ".join(LARGE)
    )
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=24, help="maps to measure; with few, loading dominates")
    parser.add_argument("--few", type=int, default=2, help="maps that are measured one by one")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    if not 1 <= arguments.few <= arguments.images:
        parser.error(f"--few: found {arguments.few}; allowed: 1 to {arguments.images}, the images")
    known = [*params.names("models"), *LARGE]
    lines: list[dict[str, Any]] = []
    for model in arguments.models:
        if model not in known:
            parser.error(f"--models: found {model!r}; allowed: {', '.join(known)}")
        with tempfile.TemporaryDirectory() as folder:
            world = make_world(model, arguments.image_size, arguments.images, Path(folder))
            floor = Floor(world)
            shared = dict(
                zip(FAITHFULNESS_KEY, (model, arguments.image_size, device_name(world.device), threads()), strict=True)
            )
            shared["forward_ms"] = floor.now("forward")
            print(
                f"\n{model} at {arguments.image_size} pixels on {shared['device']}, {threads()} threads: "
                f"{shared['forward_ms']:.3g} ms per forward pass ({floor.words['forward']})"
            )
            for family in FAMILIES:
                line = measure(world, family, floor, arguments.few, repeats=arguments.repeats)
                ratio = f", {line['ratio']:.1f} times as fast as one by one" if line["ratio"] else ""
                print(
                    f"  {family:11s} {line['ms_per_map']:9.3g} ms per map ({line['fastest']:.3g} to "
                    f"{line['slowest']:.3g}), efficiency {line['efficiency']:.2f}{ratio}",
                    flush=True,
                )
                lines.append(shared | line)
                write(pd.DataFrame(lines))


def write(table: pd.DataFrame) -> None:
    """Write the table, keeping the lines of models, sizes, machines and families that were not measured now."""
    table = report.merged(FAITHFULNESS, table, FAITHFULNESS_KEY, "family")
    write_csv(FAITHFULNESS, table)
    report.write()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
