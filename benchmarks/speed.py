"""How fast are the maps, against the libraries and against the machine?

For each method, alternating in one process: the libraries called image by image as the published code does
(`per_image`), the libraries called as well as they allow (`library`), and the explain stage (`ours`), with the same
rows, states and settings. The *floor* of a method is the evaluations that its definition needs times the best time an
evaluation takes here, over batch sizes, memory layouts and ways to use the cores. Efficiency is floor / time: of the
method alone on prepared inputs (kernel), and of the whole stage, which also reads, transforms and writes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from benchmarks import report
from benchmarks.floor import Floor, timed
from benchmarks.libraries import ONE, at_best, per_image
from benchmarks.report import KEY, SPEED
from benchmarks.world import LARGE, PICTURES, Ours, World, device_name, make_world
from pipeline.core import params
from pipeline.core.batches import batch_size
from pipeline.core.device import threads, workers
from pipeline.core.errors import UserError
from pipeline.core.files import write_csv
from pipeline.data.geometry import carry_back
from pipeline.metrics.map_pairs import score_rows
from pipeline.metrics.similarity import Reference, SimilaritySettings, spearman, ssim
from pipeline.models.state_names import TRAINED
from pipeline.models.sweep import FIRST_BLOCK
from pipeline.results.estimate import cam_shape
from pipeline.saliency.map_file import Maps, MapsWriter, Values, enlarge
from pipeline.saliency.method import METHODS, Cost
from pipeline.saliency.methods import lime

WITHOUT_LIBRARY = ("opti_cam", "extremal_perturbation")
"""Methods that no package has, which are measured against the floor alone."""


def measure(
    world: World, name: str, settings: Any, floor: Floor, *, seconds: float, repeats: int
) -> list[dict[str, Any]]:
    """Measure one method in all three ways, and the floor, alternating.

    Args:
        world: see `make_world`.
        name: of the method.
        settings: its settings.
        floor: of evaluations.
        seconds: to spend on each way each time, about; at least two rows are explained.
        repeats: how often.

    Returns:
        Lines of the table, without what they share.
    """
    cost: Cost = METHODS[name].cost(settings).for_channels(cam_shape(world.model, world.side)[0])
    kinds = {"forward": cost.forward, "gradient": cost.gradient}
    # A method that asks the model for nothing takes some time all the same.
    guess = sum(count * floor.now(kind) for kind, count in kinds.items() if count) or 1.0
    total = len(world.table)
    # So many that all threads are busy until the end or nearly so.
    together = max(1, batch_size(world.side, world.device) // cost.at_once)
    least = min(total, 4 * workers(world.device) * together)
    many = int(np.clip(1e3 * seconds / guess, least, total))
    # The libraries go through whole images, as the published code does: their checkpoints are read twice an image.
    by_image = world.table.sort_values("image", kind="stable").index.to_numpy()
    few = int(np.clip(1e3 * seconds / (3 * guess + 50), 2, 44))
    slow = np.sort(by_image[:few])
    # Rows of another state than the trained one go into blocks of images, which a whole cell fills: here the first one.
    trained = np.flatnonzero(world.table["state"] == TRAINED)
    block = np.flatnonzero((world.table["state"] != TRAINED) & (world.table["turn"] < FIRST_BLOCK))
    spread = trained[np.linspace(0, len(trained) - 1, min(many, len(trained))).astype(np.int64)]
    positions = np.unique(np.concatenate([slow, spread, block]))
    rows = world.rows(by_image[:few])
    ours = Ours(world, name, settings, positions)
    ours.prepare()
    figure, batch = str(world.folder / "figure.png"), batch_size(world.side, world.device)
    theirs_too = name in ONE  # no library that we know of has the others
    times: dict[str, list[float]] = {way: [] for way in ("per_image", "library", "kernel", "ours", "floor")}
    theirs: dict[str, list[Any]] = {}
    maps: dict[int, Any] = {}
    for repeat in range(repeats + 1):
        taken = {"floor": sum(count * floor.now(kind) for kind, count in kinds.items() if count)}
        torch.set_num_threads(threads())
        if theirs_too:
            spent, theirs["per_image"] = timed(
                lambda: per_image(name, rows, settings, world.load, figure=figure), world.device
            )
            taken["per_image"] = spent / few
            spent, theirs["library"] = timed(
                lambda: at_best(name, rows, settings, world.load, batch=batch), world.device
            )
            taken["library"] = spent / few
        world.model.requires_grad_(False)
        lime.known.clear()  # a cell of its own would not know the superpixels yet
        spent, maps = timed(ours.kernel, world.device)
        taken["kernel"] = spent / len(positions)
        lime.known.clear()
        spent, _ = timed(ours.stage, world.device)
        taken["ours"] = spent / len(positions)
        if repeat:  # the first round warms up
            for way, value in taken.items():
                times[way].append(value)
    medians = {way: float(np.median(values)) for way, values in times.items() if values}
    lines = []
    for way in [way for way in ("per_image", "library", "ours") if way in medians]:
        line: dict[str, Any] = {
            "method": name,
            "way": way,
            "rows": len(positions) if way == "ours" else few,
            "ms_per_map": medians[way],
            "fastest": min(times[way]),
            "slowest": max(times[way]),
            "ratio": medians["per_image"] / medians[way] if theirs_too else None,
            "floor_ms": medians["floor"],
        }
        if way == "ours":
            stored = Maps(world.folder / "maps.npy", ours.index, METHODS[name].values, world.side)
            size = (world.folder / "maps.npy").stat().st_size / len(positions)
            line |= {
                "efficiency_kernel": medians["floor"] / medians["kernel"],
                "efficiency_stage": medians["floor"] / medians["ours"],
                "mb_per_1000_maps": size / 1e3,
            } | _stored_effect(maps, positions, stored, world.side, values=METHODS[name].values)
        else:
            own = [enlarge(maps[at], world.side, METHODS[name].values) for at in by_image[:few].tolist()]
            differences = np.abs(np.stack(own) - np.stack(theirs[way]))
            line |= {"max_abs_diff": float(differences.max()), "mean_abs_diff": float(differences.mean())}
        lines.append(line)
    return lines


def _stored_effect(
    maps: dict[int, Any], positions: Any, stored: Maps, side: int, *, values: Values
) -> dict[str, float]:
    """Return how far storing moves the similarity of two maps at most, over neighbouring rows."""
    moved: dict[str, list[float]] = {"ssim": [0.0], "spearman": [0.0]}
    for number in range(min(len(positions) - 1, 40)):
        exact = [enlarge(maps[positions[number + i]], side, values) for i in (0, 1)]
        kept = [stored[number + i] for i in (0, 1)]
        kept = [one if one.shape == (side, side) else enlarge(one, side, values) for one in kept]
        for what, compare in (("ssim", ssim), ("spearman", spearman)):
            before, after = (compare(Reference(a, 5), b) for a, b in (exact, kept))
            if before is not None and after is not None:
                moved[what].append(abs(before - after))
    return {f"{what}_moved_by_storing": max(values) for what, values in moved.items()}


def measure_scores(world: World, repeats: int) -> list[dict[str, Any]]:
    """Measure the comparisons, and the whole score stage, against scipy and skimage on the same maps."""
    rng, count, side = np.random.default_rng(0), len(world.table), world.side
    path = world.folder / "scored.npy"
    with MapsWriter(path, "float16", count) as writer:
        for at in range(count):
            writer.write(np.array([at]), rng.random((1, side, side)) ** 2)
    maps = Maps(path, writer.described().assign(row=range(count)), "unit", side)
    settings = SimilaritySettings(window=5, validity="whole")
    a, b = maps[0], maps[1]
    wide_a, wide_b = a.astype(float), b.astype(float)
    rotated, valid = carry_back(b, "rotate", 30.0, "whole")

    def five(compare: Callable[..., Any], other: Any, mask: Any = None) -> None:
        """Compare with a reference five times; a cell does it some twenty times."""
        reference = Reference(a, 5)
        for _ in range(5):
            compare(reference, other, mask)

    ways: dict[tuple[str, str], Callable[[], Any]] = {
        ("spearman", "library"): lambda: [spearmanr(wide_a.ravel(), wide_b.ravel()) for _ in range(5)],
        ("spearman", "ours"): lambda: five(spearman, b),
        ("spearman, rotated", "library"): lambda: [spearmanr(wide_a[valid], rotated[valid]) for _ in range(5)],
        ("spearman, rotated", "ours"): lambda: five(spearman, rotated, valid),
        ("ssim", "library"): lambda: [
            structural_similarity(wide_a, wide_b, win_size=5, data_range=1.0) for _ in range(5)
        ],
        ("ssim", "ours"): lambda: five(ssim, b),
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in [*ways, ("score stage", "ours")]}
    for _ in range(3 * repeats):
        for key, work in ways.items():
            times[key].append(timed(work, world.device)[0] / 5)
    for _ in range(repeats):
        spent, _ = timed(lambda: score_rows(world.table, maps, "unit", side, settings=settings), world.device)
        times["score stage", "ours"].append(spent / (count - world.table["kind"].eq("reference").sum()))
    lines = []
    for (what, way), values in times.items():
        median = float(np.median(values))
        theirs = times.get((what, "library"))
        lines.append(
            {
                "method": what,
                "way": way,
                "rows": count if what == "score stage" else 1,
                "ms_per_map": median,
                "fastest": min(values),
                "slowest": max(values),
                "ratio": float(np.median(theirs)) / median if theirs else None,
            }
        )
    return lines


def _variants(names: list[str], scale: float) -> list[tuple[str, str, Any]]:
    """Return label, method and settings of what is measured.

    On small images LIME's cost hangs on the superpixels: at the paper's settings there are few, and samples repeat.
    """
    own = {name: params.read(f"saliency.{name}", METHODS[name].settings) for name in names}
    found = [(name, name, _cheaper(settings, scale)) for name, settings in own.items()]
    if "lime" in own and scale == 1:
        found.append((report.PAPER_LIME, "lime", report.as_in_the_paper("lime", own["lime"])))
    return found


def _cheaper(settings: Any, factor: float) -> Any:
    """Return a method's settings with its steps or samples scaled."""
    changed = {
        name: max(3, round(getattr(settings, name) * factor))
        for name in ("steps", "samples", "iterations")
        if hasattr(settings, name)
    }
    return settings.model_copy(update=changed)


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=["resnet_mini", "xcit_mini"], help="of params.yaml, or: " + ", ".join(LARGE)
    )
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument(
        "--images", type=int, default=PICTURES, help=f"pictures explained, at most {PICTURES}; 22 rows each"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=[*ONE, "opti_cam"],
        choices=[*ONE, *WITHOUT_LIBRARY],
        help="without these, all but extremal_perturbation, which takes too long",
    )
    parser.add_argument("--seconds", type=float, default=1.2, help="for a method in one way, about, each time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps and samples in params.yaml")
    arguments = parser.parse_args()
    if not 1 <= arguments.images <= PICTURES:
        parser.error(f"--images: found {arguments.images}; allowed: 1 to {PICTURES}")
    known = [*params.names("models"), *LARGE]
    for model in arguments.models:
        if model not in known:
            parser.error(f"--models: found {model!r}; allowed: {', '.join(known)}")
    lines: list[dict[str, Any]] = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            world = make_world(model, arguments.image_size, arguments.images, Path(folder))
            shared: dict[str, Any] = dict(
                zip(
                    KEY,
                    (model, arguments.image_size, device_name(world.device), threads(), arguments.scale),
                    strict=True,
                )
            )
            floor = Floor(world)
            forward, differentiated = (float(np.median([floor.now(kind) for _ in range(5)])) for kind in floor.best)
            shared |= {"forward_ms": forward, "gradient_ms": differentiated}
            print(
                f"\n{model} at {arguments.image_size} pixels on {shared['device']}, {threads()} threads: "
                f"{forward:.3g} ms per forward pass, {differentiated:.3g} ms per gradient "
                f"({floor.words['gradient']})"
            )
            for label, name, settings in _variants(arguments.methods, arguments.scale):
                found = measure(world, name, settings, floor, seconds=arguments.seconds, repeats=arguments.repeats)
                found = [line | {"method": label} for line in found]
                lines += [shared | line for line in found]
                _show(found)
                write(pd.DataFrame(lines))  # a long run that is stopped keeps what it found
            found = measure_scores(world, arguments.repeats)
            lines += [shared | line for line in found]
            _show(found)
    write(pd.DataFrame(lines))


def _show(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        text = f"  {line['method']:22s} {line['way']:10s} {line['ms_per_map']:9.3g} ms per map"
        text += f" ({line['fastest']:.3g} to {line['slowest']:.3g})"
        if line.get("ratio"):
            text += f"  {line['ratio']:6.1f} x"
        if "efficiency_kernel" in line:
            text += f"  efficiency {line['efficiency_kernel']:.2f} kernel, {line['efficiency_stage']:.2f} stage"
        if "max_abs_diff" in line:
            text += f"  differs from ours by {line['max_abs_diff']:.1e} at most, {line['mean_abs_diff']:.1e} on average"
        print(text, flush=True)


def write(table: pd.DataFrame) -> None:
    """Write the table, keeping the lines of models, sizes, machines and methods that were not measured now."""
    table = report.merged(SPEED, table, KEY, "method")
    write_csv(SPEED, table.reindex(columns=COLUMNS))
    report.write()


COLUMNS = [
    *KEY,
    "forward_ms",
    "gradient_ms",
    "method",
    "way",
    "rows",
    "ms_per_map",
    "fastest",
    "slowest",
    "ratio",
    "floor_ms",
    "efficiency_kernel",
    "efficiency_stage",
    "max_abs_diff",
    "mean_abs_diff",
    "mb_per_1000_maps",
    "ssim_moved_by_storing",
    "spearman_moved_by_storing",
]


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
