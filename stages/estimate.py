"""Say what `dvc repro` would take with params.yaml, or with a profile; nothing is written, no data is needed."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from pipeline.core import grid, params
from pipeline.core.batches import forget_memory
from pipeline.core.device import device, threads
from pipeline.core.profiles import use
from pipeline.data.plan_settings import PlanSettings, check_transforms, rows_per_image
from pipeline.metrics.faithfulness.metric import METRICS, limits_of, probes_of
from pipeline.metrics.localisation import metric as localisation
from pipeline.metrics.localisation.box_study import ALONE, OF_MAP
from pipeline.metrics.localisation.tables import LocalisationParams
from pipeline.models.build import build, resolved
from pipeline.models.network import Network
from pipeline.models.recipe import ModelSettings, read_recipe
from pipeline.results import needs
from pipeline.results.estimate import (
    GPU_FLOPS,
    SHARE,
    SPREAD,
    Operations,
    Speed,
    Weights,
    bytes_per_map,
    cam_shape,
    count_operations,
    gpu_minutes,
    measure_weights,
    minutes,
    prepared,
    time_evaluations,
)
from pipeline.saliency.method import METHODS, Cost, Method
from stages.command import guarded

LINE = "{:<24} {:>9} {:>13} {:>13} {:>10} {:>12} {:>11}"
WIDTH = 98
MOST_LINES = 100
"""A longer grid gets one line per model and method, over all datasets."""
UNITS = {"minutes": 1, "hours": 60}
CLASSES = 100
"""Of the models timed: how many there are makes no difference to speak of."""


@dataclass(frozen=True)
class Measured:
    """What a model takes at a size: speed, operations, channels of its CAM layer, weights, bytes of a map by method."""

    speed: Speed
    operations: Operations
    channels: int
    weights: Weights
    map_bytes: dict[str, int]


@dataclass(frozen=True)
class Line:
    """What a cell, or several, takes."""

    maps: int = 0
    forwards: int = 0
    gradients: int = 0
    megabytes: float = 0.0
    minutes: float = 0.0
    gpu_minutes: float = 0.0

    def __add__(self, other: Line) -> Line:
        return Line(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def written(self, name: str, unit: str) -> str:
        """Return the line as it is printed, times in minutes or hours."""
        in_unit = [time / UNITS[unit] for time in (self.minutes, self.gpu_minutes)]
        times = [f"{time:,.1f}" if time >= 0.05 else "< 0.1" for time in in_unit]
        counts = [f"{count:,}" for count in (self.maps, self.forwards, self.gradients)]
        return LINE.format(name, *counts, f"{self.megabytes:,.1f}", *times)


def main(profile: str | None) -> None:
    """Print one line per (cell, method) pair, the sum, what else is stored, and what is needed and not here."""
    if profile:
        use(profile)
    plan = params.read("plan", PlanSettings)
    check_transforms(plan)
    here = device()
    methods = {name: METHODS.find(name, "saliency") for name in grid.methods()}
    cells = grid.cells()
    pairs = sum(name not in cell.without for cell in cells.values() for name in methods)
    unit = "minutes" if pairs <= MOST_LINES else "hours"
    print(LINE.format("cell and method", "maps", "forward", "gradients", "maps, MB", f"{unit} here", f"GPU {unit}"))
    total, measuring, weights = Line(), Line(), 0
    measured: dict[tuple[str, int], Measured] = {}
    grouped: dict[str, dict[str, Line]] = {}
    for cell_name, cell in cells.items():
        size = params.read(f"datasets.{cell.dataset}.image_size", params.ImageSize)
        if (cell.model, size) not in measured:
            measured[cell.model, size] = _measure(cell.model, size, methods)
        recipe = read_recipe(cell.dataset, params.read(f"models.{cell.model}", ModelSettings), cell.model)
        of_model = measured[cell.model, size].weights
        if recipe is None:
            weights += of_model.written((), CLASSES, plan.layers, frozen=False)  # at most: states share what they can
        else:
            frozen = recipe.backbone == "frozen"
            weights += of_model.written(recipe.head, CLASSES, len(plan.checkpoints), frozen)
        explaining = {name: method for name, method in methods.items() if name not in cell.without}
        images, per_image = plan.explained(cell.dataset), rows_per_image(plan, size, trained=recipe is not None)
        measuring += _measuring(images, size, explaining, measured[cell.model, size])
        if pairs <= MOST_LINES:
            print(cell_name)
        for name, line in _lines(images, per_image, explaining, measured[cell.model, size]):
            total += line
            if pairs <= MOST_LINES:
                print(line.written(f"  {name}", unit), flush=True)
            else:
                of_methods = grouped.setdefault(cell.model, {})
                of_methods[name] = of_methods.get(name, Line()) + line
    for model, of_methods in grouped.items():
        print(f"{model}, over all datasets")
        for name, line in of_methods.items():
            print(line.written(f"  {name}", unit))
    print(total.written("all", unit))
    where = f"{here}, {threads()} thread{'s' * (threads() > 1)}" if here.type == "cpu" else str(here)
    sentences = [
        f"{len(cells)} cells, {len(methods)} methods, {pairs} (cell, method) pairs:",
        f"{total.megabytes / 1e3:,.1f} GB of maps, {weights / 1e9:,.1f} GB of weights.",
        f"{unit.capitalize()} here are for explaining on {where}, one cell after the other: the shortest of several",
        f"timings on fresh weights, taken as {SHARE:.0%} of the time. GPU {unit} are counted, not measured: the",
        "evaluations'",
        f"operations at an assumed {GPU_FLOPS / 1e12:g} TFLOP/s sustained in float32, and the same {SHARE:.0%}.",
        f"Faithfulness and localisation need at most {measuring.forwards:,} more forward passes,",
        f"{measuring.minutes / UNITS[unit]:,.1f} {unit}.",
        *_training(),
        "Predictions, scores and the start of every stage (a few seconds) come on top. LIME evaluates repeated",
        "samples once and may take less.",
    ]
    print(f"\n{textwrap.fill(' '.join(sentences), WIDTH)}")
    spread = max(of.speed.spread for of in measured.values())
    if spread > SPREAD:
        print(
            f"Timings disagree: the median took up to {spread:.1f} times as long as the shortest, which counts,\n"
            f"so other programs are running. {unit.capitalize()} here are for a machine without them."
        )
    for needed in _missing():
        print(needed)


def _measure(model: str, size: int, methods: dict[str, Method]) -> Measured:
    settings = params.read(f"models.{model}", ModelSettings)
    network = Network(settings=resolved(settings.network()), classes=CLASSES, image_size=size, head=())
    classifier = build(network, seed=0).to(device())
    weights = measure_weights(classifier)
    prepared(classifier, size)
    forget_memory()
    map_bytes = {
        name: bytes_per_map(method, params.read(f"saliency.{name}", method.settings), classifier, size)
        for name, method in methods.items()
    }
    return Measured(
        time_evaluations(classifier, size),
        count_operations(classifier, size),
        cam_shape(classifier, size)[0],
        weights,
        map_bytes,
    )


def _lines(images: int, per_image: int, methods: dict[str, Method], measured: Measured) -> Iterator[tuple[str, Line]]:
    for name, method in methods.items():
        settings = params.read(f"saliency.{name}", method.settings)
        explained = images if settings.images == "all" else min(images, settings.images)
        rows, cost = explained * per_image, method.cost(settings).for_channels(measured.channels)
        yield (
            name,
            Line(
                rows,
                rows * cost.forward,
                rows * cost.gradient,
                rows * measured.map_bytes[name] / 1e6,
                minutes(rows, cost, measured.speed),
                gpu_minutes(rows, cost, measured.operations),
            ),
        )


def _measuring(images: int, size: int, methods: dict[str, Method], measured: Measured) -> Line:
    """Return what measuring the maps of a cell takes, if all images have boxes; explaining again is not counted."""
    settings = {
        name: params.read(f"faithfulness.{name}", METRICS.find(name, "faithfulness").settings)
        for name in params.names("faithfulness")
    }
    of_image, of_map = (sum(probe.forward(size) for probe in asked(settings)) for asked in (limits_of, probes_of))
    chosen = params.read("localisation", LocalisationParams)
    of_part = sum(probe.forward(size) for probe in probes_of({name: settings[name] for name in chosen.box_study}))
    of_image += len(ALONE) * of_part
    of_map += len(OF_MAP) * of_part
    of_map += sum(localisation.METRICS.find(name, "localisation.metrics").forward for name in chosen.metrics)
    explained = [params.read(f"saliency.{name}", method.settings).images for name, method in methods.items()]
    maps = sum(images if count == "all" else min(images, count) for count in explained)
    forwards = images * of_image + maps * of_map
    cost = Cost(forward=forwards)
    return Line(0, forwards, 0, 0.0, minutes(1, cost, measured.speed), gpu_minutes(1, cost, measured.operations))


def _training() -> Iterator[str]:
    """Say how many images training goes through, where params.yaml says how many there are."""
    seen = {"frozen": 0, "trained": 0}
    unknown = []
    for cell in grid.cells().values():
        settings = params.read(f"models.{cell.model}", ModelSettings)
        recipe = read_recipe(cell.dataset, settings, cell.model)
        images = params.read(f"datasets.{cell.dataset}", dict).get("images")
        if recipe is None or cell.dataset in settings.checkpoints:
            continue
        if images is None:
            unknown.append(cell.dataset)
        else:
            seen[recipe.backbone] += images * recipe.epochs
    yield f"Training shows at most {seen['frozen']:,} images to a frozen backbone (a forward pass each) and"
    yield f"{seen['trained']:,} to a network that learns (about three)" + ("." if not unknown else "")
    if unknown:
        yield f"(not counted: {', '.join(dict.fromkeys(unknown))})."


def _missing() -> Iterator[str]:
    """Say which files the datasets and models need that are not here."""
    for section, missing_of in (("datasets", needs.of_dataset), ("models", needs.of_model)):
        for name in params.names(section):
            yield from (f"not here: {name}: {file}" for file in missing_of(name))
    for name in params.names("models"):
        settings = params.read(f"models.{name}", ModelSettings)
        if settings.weights == "timm":
            yield f"not known: {name}: {settings.architecture}, from timm's hub or its cache (HF_HOME)"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", help="a profile (profiles/<name>.yaml) instead of params.yaml")
    guarded(partial(main, parser.parse_args().profile))
