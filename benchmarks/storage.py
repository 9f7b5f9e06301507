"""What storing maps as bytes does to COSE: `python -m benchmarks.storage`, after `dvc repro`.

Every cell of params.yaml whose maps are stored as bytes is explained again with maps in float32. Their scores are
compared with those of the same maps as halves and as bytes (square roots, and steps of equal size for comparison).
Writes metrics/benchmark_storage.csv: the greatest change of COSE over both protocols and similarities, in percentage
points, and of one row's similarity.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from pipeline import params, storage, tables
from pipeline.compute import device
from pipeline.cose import summarize
from pipeline.explanation import explain_rows
from pipeline.maps import Maps, decode, encode
from pipeline.models import Classifier, build
from pipeline.pictures import Pictures
from pipeline.registry import METHODS
from pipeline.rows import in_first
from pipeline.scoring import score_rows
from stages.command import run

Stored = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
FORMS: dict[str, Stored] = {
    "float16": lambda maps: maps.astype(np.float16),
    "uint8": lambda maps: decode(encode(maps, "uint8")),
    "uint8_equal_steps": lambda maps: (np.rint(maps * 255) / 255).astype(np.float16),
}


class Changed(Sequence[npt.NDArray[Any]]):
    """Maps as they would be read from another form of storage."""

    def __init__(self, maps: Sequence[npt.NDArray[Any]], form: Stored) -> None:
        self._maps, self._form = maps, form

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, position: Any) -> Any:
        return self._form(self._maps[position])


def measure(dataset: str, model: str, method: str) -> dict[str, Any]:
    """Return what each form changes in one cell."""
    chosen = METHODS[method]
    own = params.read(f"saliency.{method}", chosen.settings)
    seed = params.read("seed", params.Seed)
    size = params.read(f"datasets.{dataset}.image_size", params.ImageSize)
    settings = params.network(model)
    head = params.read(f"training.{dataset}.head", params.Widths)
    splits = tables.read("splits", storage.splits_file(dataset))
    plan, predictions = in_first(
        tables.read("plan", storage.plan_file(dataset)),
        tables.read("predictions", storage.predictions_file(dataset, model)),
        own.images,
    )
    pictures = Pictures(storage.images_file(dataset), plan["image"], size, settings.crop_fraction)
    classifier = build(settings, int(splits["label"].max()) + 1, size, seed=0, head=head).to(device())

    def explain(
        one: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:  # fmt: skip
        return chosen.explain(one, images, targets, own, seeds)

    similarity = params.read("similarity", params.SimilaritySettings)
    statistics = params.read("statistics", params.StatisticsSettings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "maps.npy")
        index = explain_rows(
            classifier, storage.models_folder(dataset, model), plan, predictions, pictures, explain, "float32",
            chosen.cost(own).at_once, seed, path,
        )  # fmt: skip
        exact = Maps(path, len(index))

        def scored(maps: Sequence[npt.NDArray[Any]]) -> tuple[pd.DataFrame, list[float | None]]:
            scores = score_rows(plan, predictions, index, maps, size, similarity)
            return scores, [line["cose"] for line in summarize(scores, statistics, seed, dataset)]

        scores, numbers = scored(exact)
        line: dict[str, Any] = {"dataset": dataset, "model": model, "method": method}
        for name, form in FORMS.items():
            other, changed = scored(Changed(exact, form))
            moved = [abs(a - b) for a, b in zip(numbers, changed, strict=True) if a is not None and b is not None]
            line[f"{name}_cose"] = 100 * max(moved, default=float("nan"))
            line[f"{name}_row"] = max(
                float((scores[column].astype(float) - other[column].astype(float)).abs().max())
                for column in ("ssim", "spearman")
            )
    return line


def main() -> None:
    """Measure the whole grid."""
    cells = product(params.names("datasets"), params.names("models"), params.names("saliency"))
    lines = []
    for cell in cells:
        if METHODS.find(cell[2], "saliency").storage == "uint8":
            lines.append(measure(*cell))
            print(", ".join(f"{key} {value:.4f}" if isinstance(value, float) else value
                            for key, value in lines[-1].items()), flush=True)  # fmt: skip
    table = pd.DataFrame(lines)
    storage.write_csv(storage.METRICS / "benchmark_storage.csv", table)
    worst = ", ".join(f"{name} {table[f'{name}_cose'].max():.4f}" for name in FORMS)
    print(f"greatest change of COSE in percentage points: {worst} ({storage.METRICS / 'benchmark_storage.csv'})")


if __name__ == "__main__":
    run(main)
