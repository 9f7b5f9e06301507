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

from pipeline.core import grid, params
from pipeline.core.files import METRICS, write_csv
from pipeline.core.grid import CellSettings
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics.cose import StatisticsSettings, summarize
from pipeline.metrics.map_pairs import score_rows
from pipeline.metrics.similarity import SimilaritySettings
from pipeline.models.cell import cell_folder, first_images, read_cell
from pipeline.models.classifier import Classifier
from pipeline.models.load import load_states
from pipeline.models.trained import model_folder
from pipeline.saliency.explain import explain_rows
from pipeline.saliency.map_file import Maps, decode, encode
from pipeline.saliency.method import METHODS
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


def measure(name: str, cell: CellSettings, method: str) -> dict[str, Any]:
    """Return what each form changes for a method on a cell."""
    chosen = METHODS[method]
    own = params.read(f"saliency.{method}", chosen.settings)
    seed = params.read("seed", params.Seed)
    images = params.read("plan", PlanSettings).explained(cell.dataset)
    known = read_cell(cell_folder(name))
    rows = first_images(known.rows, own.images)

    def explain(one: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        return chosen.explain(one, images, targets, own, seeds)

    similarity = params.read("similarity", SimilaritySettings)
    statistics = params.read("statistics", StatisticsSettings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "maps.npy")
        index = explain_rows(
            load_states(known.network, model_folder(name)),
            rows,
            known.pictures,
            explain,
            values=chosen.values,
            storage="float32",
            at_once=chosen.cost(own).at_once,
            seed=seed,
            maps_path=path,
        )
        exact = Maps(path, index, chosen.values, known.network.image_size)

        def scored(maps: Sequence[npt.NDArray[Any]]) -> tuple[pd.DataFrame, list[float | None]]:
            scores = score_rows(rows, maps, chosen.values, known.network.image_size, settings=similarity)
            return scores, [line["cose"] for line in summarize(scores, images, statistics, seed, dataset=cell.dataset)]

        scores, numbers = scored(exact)
        line: dict[str, Any] = {"cell": name, "method": method}
        for name, form in FORMS.items():
            other, changed = scored(Changed(exact, form))
            moved = [abs(a - b) for a, b in zip(numbers, changed, strict=True) if a is not None and b is not None]
            # Flat maps have neither: their fields stay empty.
            line[f"{name}_cose"] = 100 * max(moved, default=float("nan"))
            differences = (scores[["ssim", "spearman"]] - other[["ssim", "spearman"]]).abs().to_numpy(float, na_value=0)
            line[f"{name}_row"] = float(differences.max()) if moved else float("nan")
    return line


def main() -> None:
    """Measure the whole grid."""
    lines = []
    for (name, cell), method in product(grid.cells().items(), grid.methods()):
        if METHODS.find(method, "saliency").stored_as == "uint8" and method not in cell.without:
            lines.append(measure(name, cell, method))
            print(
                ", ".join(
                    f"{key} {value:.4f}" if isinstance(value, float) else value for key, value in lines[-1].items()
                ),
                flush=True,
            )
    table = pd.DataFrame(lines)
    write_csv(METRICS / "benchmark_storage.csv", table)
    worst = ", ".join(f"{name} {table[f'{name}_cose'].max():.4f}" for name in FORMS)
    print(f"greatest change of COSE in percentage points: {worst} ({METRICS / 'benchmark_storage.csv'})")


if __name__ == "__main__":
    run(main)
