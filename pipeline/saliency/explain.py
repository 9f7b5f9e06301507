"""Maps of every row, streamed to disk."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from pipeline.core.batches import out_of_memory
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
    name: str = "method",
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
        name: of the method and the cell, for messages.

    Returns:
        The table ``index`` (`pipeline.saliency.explanations.INDEX`).

    Raises:
        UserError: the method raises an error, or gives a map that is not finite, of a wrong type or shape, or out of
            range; or the disk is full.
    """
    targets = rows["prediction"].to_numpy()
    numbers = rows["row"].to_numpy()

    def maps_of(model: Classifier, images: torch.Tensor, positions: Positions) -> torch.Tensor:
        seeds = [stream_seed(seed, "explain", int(row)) for row in numbers[positions]]
        where = f"{name}, row {numbers[positions][0]}"
        try:
            maps = explain(model, images, torch.tensor(targets[positions]).to(images.device), seeds)
        except Exception as error:
            if isinstance(error, UserError) or out_of_memory(error):
                raise
            raise UserError(where, f"the method raised {_raised(error)}", fix="COSE_TRACEBACK=1 shows more") from error
        _check(maps, numbers[positions], images.shape[-1], values, name=name)
        return maps

    with (
        MapsWriter(maps_path, storage, len(rows)) as writer,
        closing(sweep(states, rows, pictures, maps_of, at_once=at_once, what="explain")) as results,
    ):
        for positions, maps in results:
            writer.write(positions, maps.clip(-1, 1))  # beyond by a last bit at most, see `_check`
    return pd.DataFrame({"row": numbers, "state": rows["state"], "target": targets}).join(writer.described())


def _raised(error: Exception) -> str:
    """Return what an error says, and where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({Path(last.filename).name}, line {last.lineno})"
    )


def _check(given: torch.Tensor, numbers: npt.NDArray[np.int64], side: int, values: Values, *, name: str) -> None:
    """Raise a `UserError` for maps that are not what the method says they are."""
    if not isinstance(given, torch.Tensor) or not given.is_floating_point():
        found = f"a tensor of {given.dtype}" if isinstance(given, torch.Tensor) else f"a {type(given).__name__}"
        raise UserError(
            f"{name}, row {numbers[0]}", f"the method returned {found}", expected="a torch.Tensor of float32"
        )
    maps: npt.NDArray[Any] = given.detach().cpu().numpy()
    if maps.ndim != 3 or len(maps) != len(numbers) or max(maps.shape[1:]) > side:
        allowed = f"({len(numbers)}, height, width), with at most {side} pixels a side"
        raise UserError(f"{name}, row {numbers[0]}", f"found maps of shape {maps.shape}", expected=allowed)
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        raise UserError(f"{name}, row {numbers[finite.argmin()]}", "the method gave a map with NaN or infinity")
    if values == "ternary":
        wrong, allowed = ~np.isin(maps, (-1, 0, 1)), "-1, 0 and 1"
    else:
        low = 0 if values == "unit" else -1
        wrong, allowed = (maps < low - EPSILON) | (maps > 1 + EPSILON), f"{low} to 1"
    if wrong.any():
        at = wrong.any(axis=(1, 2)).argmax()
        found = maps[at][wrong[at]][0]
        raise UserError(
            f"{name}, row {numbers[at]}", f"the method gave a map with {found:g}", expected=f"{allowed} ({values})"
        )
