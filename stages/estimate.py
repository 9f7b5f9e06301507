"""Say what `dvc repro` would take with params.yaml as it is; nothing is written, no data is needed."""

from pipeline import params
from pipeline.compute import device, forget_memory, threads
from pipeline.estimate import SHARE, bytes_per_map, minutes, prepared, time_evaluations
from pipeline.models import build
from pipeline.plan import check_transforms, rows_per_image
from pipeline.registry import METHODS
from stages.command import run

LINE = "{:<34} {:>8} {:>12} {:>12} {:>10} {:>10}"
CLASSES = 100
"""Of the models timed: how many there are makes no difference to speak of."""


def main() -> None:
    """Print a line for every cell, and the sum."""
    plan = params.read("plan", params.PlanSettings)
    check_transforms(plan)
    on = device()
    settings = {
        name: params.read(f"saliency.{name}", METHODS.find(name, "saliency").settings)
        for name in params.names("saliency")
    }
    where = f"{on}, {threads()} threads" if on.type == "cpu" else str(on)
    print(LINE.format("cell", "maps", "forwards", "gradients", "disk, MB", "minutes"))
    sums = [0, 0, 0, 0.0, 0.0]
    for dataset in params.names("datasets"):
        size = params.read(f"datasets.{dataset}.image_size", params.ImageSize)
        rows = plan.images * rows_per_image(plan, size)
        for model in params.names("models"):
            classifier = build(params.read(f"models.{model}", params.ModelSettings), CLASSES, size, seed=0).to(on)
            forget_memory()
            speed = time_evaluations(prepared(classifier, size), size)
            for name, own in settings.items():
                cost = METHODS[name].cost(own)
                disk = rows * bytes_per_map(METHODS[name], own, classifier, size) / 1e6
                numbers = [rows, rows * cost.forward, rows * cost.gradient, disk, minutes(rows, cost, speed)]
                sums = [total + number for total, number in zip(sums, numbers, strict=True)]
                print(LINE.format(f"{dataset} {model} {name}", *_written(numbers)), flush=True)
    print(LINE.format("all", *_written(sums)))
    print(f"\nMinutes are for explaining here ({where}), one cell after the other: evaluations timed now on fresh "
          f"weights, taken as {SHARE:.0%} of the time.\nTraining, predictions, scores and the start of every stage (a "
          "few seconds) come on top. LIME asks about repeated samples once and may take less.")  # fmt: skip


def _written(numbers: list[int | float]) -> list[str]:
    *counts, disk, time = numbers
    return [*(f"{count:,}" for count in counts), f"{disk:,.1f}", f"{time:,.1f}" if time >= 0.1 else "< 0.1"]


if __name__ == "__main__":
    run(main)
