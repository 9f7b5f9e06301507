"""How fast are the maps, against the libraries and against the machine?

For each method, alternating in one process: the libraries called image by image as the published code does
(`per_image`), the libraries called as well as they allow (`library`), and the explain stage (`ours`), with the same
rows, states and settings. The *floor* of a method is the evaluations that its definition needs times the best time an
evaluation takes here, over batch sizes, memory layouts and ways to use the cores. Efficiency is floor / time: of the
method alone on prepared inputs (kernel), and of the whole stage, which also reads, transforms and writes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from benchmarks import report
from benchmarks.libraries import Row, at_best, per_image
from benchmarks.report import KEY, SPEED
from pipeline import params, storage
from pipeline.compute import batch_size, device, threads, workers
from pipeline.datasets.shapes import Settings as ShapesSettings
from pipeline.datasets.shapes import load as draw_shapes
from pipeline.explanation import explain_rows
from pipeline.fusion import fold, foldable, lay_out
from pipeline.images import decode_images
from pipeline.maps import Maps, MapsWriter, enlarge
from pipeline.models import Classifier, build, load_state, save_state
from pipeline.parallel import in_order
from pipeline.plan import draw_plan
from pipeline.prediction import predict
from pipeline.randomness import stream_seed
from pipeline.registry import METHODS, Cost
from pipeline.rows import Inputs, Part, States, parts
from pipeline.scoring import score_rows
from pipeline.similarity import Reference, spearman, ssim
from pipeline.transforms import TRANSFORMS, carry_back

LARGE = {
    "resnet50": {"cam_layer": "layer4.-1", "cam_layout": "channels_first"},
    "vit_base_patch16_224": {"cam_layer": "blocks.-1.norm1", "cam_layout": "tokens"},
}
"""Models that can be measured besides those of params.yaml."""

CLASSES, EPOCHS = 10, 10
SEED = 0


@dataclass(frozen=True)
class World:
    """What a cell's stages read, made for the occasion: drawn pictures, a plan, a model with fresh weights."""

    name: str
    folder: Path
    model: Classifier
    plan: pd.DataFrame
    predictions: pd.DataFrame
    pictures: dict[int, Any]
    side: int

    @property
    def on(self) -> torch.device:
        return self.model.mean.device

    def load(self, state: str) -> Classifier:
        """Return a model as the published code has it: parameters want gradients, nothing is folded."""
        load_state(self.model, self.folder / f"{state}.safetensors")
        return self.model.requires_grad_(True)

    def rows(self, positions: Iterable[int]) -> list[Row]:
        """Return rows of the plan as the libraries' loops take them."""
        chosen = np.fromiter(positions, np.int64)
        pixels = Inputs(self.plan, self.pictures).pixels(chosen)
        return [
            Row(
                self.predictions["state"][at], int(self.plan["image"][at]), one,
                int(self.predictions["prediction"][at]), stream_seed(SEED, "explain", int(self.plan["row"][at])),
            )
            for at, one in zip(chosen, pixels, strict=True)
        ]  # fmt: skip


def make_world(name: str, side: int, images: int, folder: Path) -> World:
    """Make everything that the stages need for one model.

    Args:
        name: of a model in params.yaml or of `LARGE`.
        side: of the images, in pixels.
        images: how many are explained; each has 22 rows.
        folder: where the weights go.
    """
    settings = _model_settings(name)
    drawn = draw_shapes(_shapes(side), SEED)
    pixels = decode_images(drawn.images[:images], side, 1.0, "drawn")
    splits = pd.DataFrame({"image": range(images), "label": drawn.labels[:images], "split": "test"})
    plan = draw_plan(
        splits,
        params.PlanSettings(images=images, magnitudes=2, transforms=tuple(TRANSFORMS), checkpoints=()),
        side, SEED, "benchmark",
    )  # fmt: skip
    model = build(settings, CLASSES, side, SEED)
    for number, state in enumerate(("trained", "random")):
        save_state(build(settings, CLASSES, side, number), folder / f"{state}.safetensors")
    model.to(device())
    pictures = dict(enumerate(pixels))
    predictions = predict(model, folder, plan, splits, pictures, EPOCHS)
    return World(name, folder, model, plan, predictions, pictures, side)


def _model_settings(name: str) -> params.ModelSettings:
    if name in LARGE:
        usual: dict[str, Any] = {"crop_fraction": 1.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        return params.ModelSettings(architecture=name, arguments={}, **usual, **LARGE[name])  # type: ignore[arg-type]
    return params.read(f"models.{name}", params.ModelSettings)


def _shapes(side: int) -> ShapesSettings:
    return ShapesSettings.model_validate(
        {"loader": "shapes", "source": "-", "image_size": side, "images": 50, "split": {"validation": 0.1, "test": 0.1},
         "area": {"smallest": 0.1, "largest": 0.25}}
    )  # fmt: skip


def _timed(work: Callable[[], Any], on: torch.device) -> tuple[float, Any]:
    """Return the milliseconds that some work takes, and what it returns."""
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    start = time.perf_counter()
    result = work()
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    return 1e3 * (time.perf_counter() - start), result


def best_evaluations(world: World) -> tuple[float, float, str]:
    """Search for the least time of a forward pass and of a gradient.

    Returns:
        Milliseconds an image for a forward pass and for a gradient, and the setting that the gradient's came from.
    """
    plain = world.load("trained").requires_grad_(False)
    fast = build(_model_settings(world.name), CLASSES, world.side, SEED).to(world.on).requires_grad_(False)
    fold(fast, foldable(fast, world.side))
    lay_out(fast)
    found: dict[str, tuple[float, str]] = {}
    usual = batch_size(world.side, world.on)
    for kind in ("forward", "gradient"):
        tried = []
        for size in sorted({max(1, usual // 2), usual, 2 * usual}):
            for label, model in (("plain", plain), ("folded, channels last", fast)):
                for share in ("threads share a batch", "a batch a thread"):
                    tried.append((_evaluation(world, kind, model, size, share), f"{label}, {size} images, {share}"))
        # The best few again, each three times: the search itself is noisy.
        again = []
        for _, setting in sorted(tried)[:3]:
            label, size_text, share = setting.rsplit(", ", 2)
            model = plain if label == "plain" else fast
            times = [_evaluation(world, kind, model, int(size_text.split()[0]), share) for _ in range(3)]
            again.append((float(np.median(times)), setting))
        found[kind] = min(again)
    return found["forward"][0], found["gradient"][0], found["gradient"][1]


def _evaluation(world: World, kind: str, model: Classifier, size: int, share: str) -> float:
    """Return milliseconds an image of one way to evaluate."""
    together = share == "threads share a batch"
    count = 1 if together else threads()
    torch.set_num_threads(threads() if together else 1)
    drawn = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, world.side, world.side, generator=drawn).to(world.on)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(size, dtype=torch.int64, device=world.on)

    def evaluate(_: int = 0) -> None:
        if kind == "gradient":
            inputs = images.detach().clone(memory_format=torch.channels_last).requires_grad_()
            with torch.enable_grad():
                score = model(inputs).softmax(dim=1).gather(1, targets[:, None]).sum()
            torch.autograd.grad(score, inputs)
        else:
            with torch.inference_mode():
                model(images)

    with ThreadPoolExecutor(count) as pool:
        once, _ = _timed(lambda: list(pool.map(evaluate, range(count))), world.on)
        once, _ = _timed(lambda: list(pool.map(evaluate, range(count))), world.on)
        rounds = max(1, round(400 / once))
        total, _ = _timed(lambda: list(pool.map(evaluate, range(rounds * count))), world.on)
    return total / (rounds * count * size)


class Ours:
    """The explain stage on some rows of a plan, whole or the method alone."""

    def __init__(self, world: World, name: str, settings: Any, positions: Any) -> None:
        self.world, self.method, self.settings, self.positions = world, METHODS[name], settings, positions
        self.plan = world.plan.iloc[positions].reset_index(drop=True)
        self.predictions = world.predictions.iloc[positions].reset_index(drop=True)
        self.at_once = self.method.cost(settings).at_once
        self.states = States(world.model, world.folder, world.side)
        self.inputs = Inputs(self.plan, world.pictures)
        self.ready = {}
        for part in self._parts():
            self.ready[part.positions[0]] = world.model.normalize(self.inputs.pixels(part.positions))

    def _parts(self) -> list[Part]:
        size = max(1, batch_size(self.world.side, self.world.on) // self.at_once)
        return list(parts(self.predictions["state"].tolist(), size))

    def explain(
        self, model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        return self.method.explain(model, images, targets, self.settings, seeds)

    def kernel(self) -> dict[int, Any]:
        """Return the maps by position in the world's plan."""

        def work(part: Part) -> tuple[Part, Any]:
            model = self.states.model(part.state)
            targets = torch.tensor(self.predictions["prediction"].to_numpy()[part.positions]).to(self.world.on)
            rows = self.plan["row"].to_numpy()[part.positions]
            seeds = [stream_seed(SEED, "explain", int(row)) for row in rows]
            return part, self.explain(model, self.ready[part.positions[0]], targets, seeds).cpu().numpy()

        maps: dict[int, Any] = {}
        for part, values in in_order(work, self._parts(), workers(self.world.on)):
            maps.update(zip(self.positions[part.positions].tolist(), values, strict=True))
        return maps

    def stage(self) -> None:
        """Do what the stage does, from pictures and weights on disk to maps on disk."""
        explain_rows(
            self.world.model, self.world.folder, self.plan, self.predictions, self.world.pictures, self.explain,
            self.method.storage, self.at_once, SEED, self.world.folder / "maps.npy",
        )  # fmt: skip


def measure(world: World, name: str, settings: Any, floor: float, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """Measure one method in all three ways, alternating.

    Args:
        world: see `make_world`.
        name: of the method.
        settings: its settings.
        floor: milliseconds a map.
        seconds: to spend on each way each time, about; at least two rows are explained.
        repeats: how often.

    Returns:
        Lines of the table, without what they share.
    """
    count = len(world.plan)
    least = 8 * workers(world.on)
    many = int(np.clip(1e3 * seconds / floor, min(least, count), count))
    few = int(np.clip(1e3 * seconds / (3 * floor + 150), 2, 12))
    positions = np.unique(np.linspace(0, count - 1, many).astype(np.int64))
    slow = world.rows(positions[np.linspace(0, len(positions) - 1, few).astype(int)])
    slow_positions = positions[np.linspace(0, len(positions) - 1, few).astype(int)]
    ours = Ours(world, name, settings, positions)
    figure = str(world.folder / "figure.png")
    batch = batch_size(world.side, world.on)
    times: dict[str, list[float]] = {"per_image": [], "library": [], "kernel": [], "ours": []}
    theirs: dict[str, list[Any]] = {}
    maps: dict[int, Any] = {}
    for repeat in range(repeats + 1):
        torch.set_num_threads(threads())
        taken: dict[str, float] = {}
        spent, theirs["per_image"] = _timed(lambda: per_image(name, slow, settings, world.load, figure), world.on)
        taken["per_image"] = spent / few
        spent, theirs["library"] = _timed(lambda: at_best(name, slow, settings, world.load, batch), world.on)
        taken["library"] = spent / few
        world.model.requires_grad_(False)
        spent, maps = _timed(ours.kernel, world.on)
        taken["kernel"] = spent / len(positions)
        spent, _ = _timed(ours.stage, world.on)
        taken["ours"] = spent / len(positions)
        if repeat:  # the first round warms up
            for way, value in taken.items():
                times[way].append(value)
    medians = {way: float(np.median(values)) for way, values in times.items()}
    lines = []
    for way in ("per_image", "library", "ours"):
        line: dict[str, Any] = {
            "method": name, "way": way, "rows": len(positions) if way == "ours" else few, "ms_per_map": medians[way],
            "fastest": min(times[way]), "slowest": max(times[way]), "ratio": medians["per_image"] / medians[way],
            "floor_ms": floor,
        }  # fmt: skip
        if way == "ours":
            stored = Maps(world.folder / "maps.npy", len(positions))
            size = (world.folder / "maps.npy").stat().st_size / len(positions)
            line |= {"efficiency_kernel": floor / medians["kernel"], "efficiency_stage": floor / medians["ours"],
                     "mb_per_1000_maps": size / 1e3} | _stored_effect(maps, positions, stored, world.side)  # fmt: skip
        else:
            own = [enlarge(maps[at], world.side) for at in slow_positions.tolist()]
            differences = np.abs(np.stack(own) - np.stack(theirs[way]))
            line |= {"max_abs_diff": float(differences.max()), "mean_abs_diff": float(differences.mean())}
        lines.append(line)
    return lines


def _stored_effect(maps: dict[int, Any], positions: Any, stored: Maps, side: int) -> dict[str, float]:
    """Return how far storing moves the similarity of two maps at most, over neighbouring rows."""
    moved: dict[str, list[float]] = {"ssim": [0.0], "spearman": [0.0]}
    for number in range(min(len(positions) - 1, 40)):
        exact = [enlarge(maps[positions[number + i]], side) for i in (0, 1)]
        kept = [stored[number + i] for i in (0, 1)]
        kept = [one if one.shape == (side, side) else enlarge(one, side) for one in kept]
        for what, compare in (("ssim", ssim), ("spearman", spearman)):
            before, after = (compare(Reference(a, 5), b) for a, b in (exact, kept))
            if before is not None and after is not None:
                moved[what].append(abs(before - after))
    return {f"{what}_moved_by_storing": max(values) for what, values in moved.items()}


def measure_scores(world: World, repeats: int) -> list[dict[str, Any]]:
    """Measure the comparisons, and the whole score stage, against scipy and skimage on the same maps."""
    rng, count, side = np.random.default_rng(0), len(world.plan), world.side
    path = world.folder / "scored.npy"
    with MapsWriter(path, "float16", count) as writer:
        for at in range(count):
            writer.write(np.array([at]), rng.random((1, side, side)) ** 2)
    maps = Maps(path, count)
    index = pd.DataFrame({"row": world.plan["row"], "state": world.predictions["state"],
                          "target": world.predictions["prediction"]})  # fmt: skip
    settings = params.SimilaritySettings(window=5)
    a, b = maps[0], maps[1]
    wide_a, wide_b = a.astype(float), b.astype(float)
    rotated, valid = carry_back(b, "rotate", 30.0)
    kept = Reference(a, 5)
    ways: dict[tuple[str, str], Callable[[], Any]] = {
        ("spearman", "library"): lambda: spearmanr(wide_a.ravel(), wide_b.ravel()).statistic,
        ("spearman", "ours"): lambda: spearman(kept, b),
        ("spearman, rotated", "library"): lambda: spearmanr(wide_a[valid], rotated[valid]).statistic,
        ("spearman, rotated", "ours"): lambda: spearman(kept, rotated, valid),
        ("ssim", "library"): lambda: structural_similarity(wide_a, wide_b, win_size=5, data_range=1.0),
        ("ssim", "ours"): lambda: ssim(kept, b),
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in [*ways, ("score stage", "ours")]}
    for _ in range(3 * repeats):
        for key, work in ways.items():
            times[key].append(_timed(lambda work=work: [work() for _ in range(5)], world.on)[0] / 5)  # type: ignore[misc]
    for _ in range(repeats):
        spent, _ = _timed(lambda: score_rows(world.plan, world.predictions, index, maps, side, settings), world.on)
        times["score stage", "ours"].append(spent / (count - world.plan["kind"].eq("reference").sum()))
    lines = []
    for (what, way), values in times.items():
        median = float(np.median(values))
        theirs = times.get((what, "library"))
        lines.append(
            {"method": what, "way": way, "rows": count if what == "score stage" else 1, "ms_per_map": median,
             "fastest": min(values), "slowest": max(values),
             "ratio": float(np.median(theirs)) / median if theirs else None}
        )  # fmt: skip
    return lines


def _cheaper(settings: Any, factor: float) -> Any:
    """Return a method's settings with its steps or samples scaled."""
    changed = {
        name: max(3, round(getattr(settings, name) * factor))
        for name in ("steps", "samples")
        if hasattr(settings, name)
    }
    return settings.model_copy(update=changed)


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet_mini", "xcit_mini"], help="of params.yaml, or: "
                        + ", ".join(LARGE))  # fmt: skip
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--images", type=int, default=50, help="pictures explained, at most 50; 22 rows each")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seconds", type=float, default=1.5, help="for a method in one way, about, each time")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps and samples in params.yaml")
    arguments = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            world = make_world(model, arguments.image_size, arguments.images, Path(folder))
            shared: dict[str, Any] = dict(
                zip(KEY, (model, arguments.image_size, _device_name(world.on), threads()), strict=True)
            )
            forward, differentiated, setting = best_evaluations(world)
            shared |= {"forward_ms": forward, "gradient_ms": differentiated}
            print(f"\n{model} at {arguments.image_size} pixels on {shared['device']}, {threads()} threads: "
                  f"{forward:.3g} ms a forward pass, {differentiated:.3g} ms a gradient ({setting})")  # fmt: skip
            for name in arguments.methods:
                settings = _cheaper(params.read(f"saliency.{name}", METHODS[name].settings), arguments.scale)
                cost: Cost = METHODS[name].cost(settings)
                floor = cost.forward * forward + cost.gradient * differentiated
                found = measure(world, name, settings, floor, arguments.seconds, arguments.repeats)
                lines += [shared | line for line in found]
                _show(found)
            found = measure_scores(world, arguments.repeats)
            lines += [shared | line for line in found]
            _show(found)
    write(pd.DataFrame(lines))


def _device_name(on: torch.device) -> str:
    return torch.cuda.get_device_name(on) if on.type == "cuda" else "cpu"


def _show(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        text = f"  {line['method']:22s} {line['way']:10s} {line['ms_per_map']:9.3g} ms a map"
        text += f" ({line['fastest']:.3g} to {line['slowest']:.3g})"
        if line.get("ratio"):
            text += f"  {line['ratio']:6.1f} x"
        if "efficiency_kernel" in line:
            text += f"  efficiency {line['efficiency_kernel']:.2f} kernel, {line['efficiency_stage']:.2f} stage"
        if "max_abs_diff" in line:
            text += f"  differs from ours by {line['max_abs_diff']:.1e} at most, {line['mean_abs_diff']:.1e} on average"
        print(text, flush=True)


def write(table: pd.DataFrame) -> None:
    """Write the table, keeping the lines of models, sizes and machines that were not measured now."""
    if SPEED.exists():
        old = pd.read_csv(SPEED)
        measured = old[KEY].apply(tuple, axis=1).isin(set(table[KEY].apply(tuple, axis=1)))
        table = pd.concat([old[~measured], table], ignore_index=True)
    storage.write_csv(SPEED, table.reindex(columns=COLUMNS))
    report.write()


COLUMNS = [
    *KEY, "forward_ms", "gradient_ms", "method", "way", "rows", "ms_per_map", "fastest", "slowest", "ratio",
    "floor_ms", "efficiency_kernel", "efficiency_stage", "max_abs_diff", "mean_abs_diff", "mb_per_1000_maps",
    "ssim_moved_by_storing", "spearman_moved_by_storing",
]  # fmt: skip


if __name__ == "__main__":
    main()
