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

from pipeline.core.errors import UserError
from pipeline.core.randomness import stream_seed
from pipeline.data.decode import Pixels
from pipeline.models.classifier import Classifier
from pipeline.models.states import States
from pipeline.models.sweep import Positions, sweep
from pipeline.saliency.map_file import EPSILON, MapsWriter, StorageType, Values

Explain = Callable[[Classifier, torch.Tensor, torch.Tensor, Sequence[int]], torch.Tensor]


def explain_rows(
    states: States,
    rows: pd.DataFrame,
    pictures: Mapping[int, Pixels],
    explain: Explain,
    *,
    values: Values,
    storage: StorageType,
    at_once: int,
    seed: int,
    maps_path: Path,
) -> pd.DataFrame:
    """Explain every row, for the class predicted there, and write the maps as they come.

    Args:
        states: of the model.
        rows: the rows to explain, of the table ``rows``.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        explain: ``(model, images, targets, seeds) -> maps``: a method with its settings.
        values: what kind of values its maps have.
        storage: type of the maps on disk.
        at_once: evaluations of one map that the method makes at once; as many rows are explained together as fill a
            batch.
        seed: the user's; a row's own seed comes from it and the row's number.
        maps_path: the file to write; at no time are all maps in memory.

    Returns:
        The table ``index`` (`pipeline.saliency.explanations.INDEX`).

    Raises:
        UserError: the method gives a map that is not finite, of a wrong shape or out of range, or the disk is full.
    """
    targets = rows["prediction"].to_numpy()
    numbers = rows["row"].to_numpy()

    def maps_of(model: Classifier, images: torch.Tensor, positions: Positions) -> torch.Tensor:
        seeds = [stream_seed(seed, "explain", int(row)) for row in numbers[positions]]
        maps = explain(model, images, torch.tensor(targets[positions]).to(images.device), seeds)
        _check(maps, numbers[positions], images.shape[-1], values)
        return maps

    with (
        MapsWriter(maps_path, storage, len(rows)) as writer,
        closing(sweep(states, rows, pictures, maps_of, at_once=at_once, what="explain")) as results,
    ):
        for positions, maps in results:
            writer.write(positions, maps.clip(-1, 1))  # beyond by a last bit at most, see `_check`
    return pd.DataFrame({"row": numbers, "state": rows["state"], "target": targets}).join(writer.described())


def _check(given: torch.Tensor, numbers: npt.NDArray[np.int64], side: int, values: Values) -> None:
    """Raise a `UserError` for maps that are not what the method says they are."""
    maps: npt.NDArray[Any] = given.detach().cpu().numpy()
    if maps.ndim != 3 or len(maps) != len(numbers) or max(maps.shape[1:]) > side:
        raise UserError(f"row {numbers[0]}: found maps of shape {maps.shape}; allowed: ({len(numbers)}, height, "
                        f"width), with at most {side} pixels a side")  # fmt: skip
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        raise UserError(f"row {numbers[finite.argmin()]}: the method gave a map with NaN or infinity")
    if values == "ternary":
        wrong, allowed = ~np.isin(maps, (-1, 0, 1)), "-1, 0 and 1"
    else:
        low = 0 if values == "unit" else -1
        wrong, allowed = (maps < low - EPSILON) | (maps > 1 + EPSILON), f"{low} to 1"
    if wrong.any():
        at = wrong.any(axis=(1, 2)).argmax()
        raise UserError(f"row {numbers[at]}: the method gave a map with {maps[at][wrong[at]][0]:g}; allowed: {allowed} "
                        f"({values})")  # fmt: skip
