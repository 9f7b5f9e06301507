"""Maps of every row, streamed to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.compute import batch_size, with_smaller_batches, workers
from pipeline.errors import UserError
from pipeline.images import Pixels
from pipeline.maps import EPSILON, MapsWriter
from pipeline.models import Classifier
from pipeline.parallel import in_order
from pipeline.randomness import stream_seed
from pipeline.registry import StorageType
from pipeline.rows import Inputs, Part, States, parts

Explain = Callable[[Classifier, torch.Tensor, torch.Tensor, Sequence[int]], torch.Tensor]


def explain_rows(
    model: Classifier,
    weights: Path,
    plan: pd.DataFrame,
    predictions: pd.DataFrame,
    pictures: Mapping[int, Pixels],
    explain: Explain,
    storage: StorageType,
    at_once: int,
    seed: int,
    maps_path: Path,
) -> pd.DataFrame:
    """Explain every row, for the class predicted there, and write the maps as they come.

    Args:
        model: on its device.
        weights: folder with a safetensors file a state.
        plan: the rows to explain, of the table ``plan``.
        predictions: the table ``predictions`` of the same rows.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        explain: ``(model, images, targets, seeds) -> maps``: a method with its settings.
        storage: type of the maps on disk.
        at_once: evaluations of one map that the method makes at once; as many rows are explained together as fill a
            batch.
        seed: the user's; a row's own seed comes from it and the row's number.
        maps_path: the file to write; at no time are all maps in memory.

    Returns:
        The table ``index`` (see `pipeline.tables`).

    Raises:
        UserError: the predictions are not those of the plan, or the method gives a map that is not finite or has a
            wrong shape.
    """
    if not np.array_equal(plan["row"], predictions["row"]):
        raise UserError(f"predictions: found {len(predictions)} rows that are not the plan's {len(plan)}; "
                        "`dvc repro` makes them again")  # fmt: skip
    targets = predictions["prediction"].to_numpy()
    rows = plan["row"].to_numpy()
    inputs = Inputs(plan, pictures)
    on = model.mean.device
    states = States(model, weights, inputs.side)
    together = max(1, batch_size(inputs.side, on) // at_once)

    def work(part: Part) -> tuple[Part, npt.NDArray[Any]]:
        pixels = inputs.pixels(part.positions)
        seeds = [stream_seed(seed, "explain", int(row)) for row in rows[part.positions]]

        def maps_of() -> torch.Tensor:
            own = states.model(part.state)
            chosen = torch.tensor(targets[part.positions]).to(on)
            return explain(own, own.normalize(pixels), chosen, seeds).cpu()

        maps = with_smaller_batches(maps_of, inputs.side, on).numpy()
        _check(maps, rows[part.positions], inputs.side, storage)
        return part, maps

    low, high = np.zeros(len(plan)), np.zeros(len(plan))
    todo = parts(predictions["state"].tolist(), together)
    with (
        tqdm(total=len(plan), desc="explain", unit="map", disable=None) as progress,
        MapsWriter(maps_path, storage, len(plan)) as writer,
        closing(in_order(work, todo, workers(on))) as results,
    ):
        for part, maps in results:
            stored = writer.write(part.positions, maps)
            low[part.positions], high[part.positions] = stored.min(axis=(1, 2)), stored.max(axis=(1, 2))
            progress.update(len(part.positions))
    return pd.DataFrame(
        {
            "row": rows,
            "state": predictions["state"],
            "target": targets,
            "minimum": low,
            "maximum": high,
            "flat": low == high,
        }
    )


def _check(maps: npt.NDArray[Any], rows: npt.NDArray[np.int64], side: int, storage: StorageType) -> None:
    if maps.ndim != 3 or len(maps) != len(rows) or max(maps.shape[1:]) > side:
        raise UserError(f"row {rows[0]}: found maps of shape {maps.shape}; allowed: ({len(rows)}, height, width), with "
                        f"at most {side} pixels a side")  # fmt: skip
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        raise UserError(f"row {rows[finite.argmin()]}: the method gave a map with NaN or infinity")
    low, high = (0 if storage == "uint8" else -1), 1
    outside = (maps < low - EPSILON) | (maps > high + EPSILON)
    if outside.any():
        at = outside.any(axis=(1, 2)).argmax()
        raise UserError(f"row {rows[at]}: the method gave a map with {maps[at][outside[at]][0]:g}; allowed: {low} to "
                        f"{high} ({storage})")  # fmt: skip
