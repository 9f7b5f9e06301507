"""Maps of every row, streamed to disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.images import Pixels
from pipeline.maps import create_maps
from pipeline.models import Classifier
from pipeline.randomness import stream_seed
from pipeline.registry import StorageType
from pipeline.rows import batches

Explain = Callable[[torch.Tensor, torch.Tensor, Sequence[int]], torch.Tensor]


def explain_rows(
    model: Classifier,
    weights: Path,
    plan: pd.DataFrame,
    predictions: pd.DataFrame,
    pictures: dict[int, Pixels],
    explain: Explain,
    storage: StorageType,
    seed: int,
    maps_path: Path,
) -> pd.DataFrame:
    """Explain every row, for the class predicted there, and write the maps as they come.

    Args:
        model: on its device, parameters without gradient.
        weights: folder with a safetensors file a state.
        plan: the table ``plan``.
        predictions: the table ``predictions`` of the same rows.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        explain: ``(images, targets, seeds) -> maps``: a method with its settings and its model.
        storage: type of the maps on disk.
        seed: the user's; a row's own seed comes from it and the row's number.
        maps_path: the file to write; at no time are all maps in memory.

    Returns:
        The table ``index`` (see `pipeline.tables`).

    Raises:
        UserError: the predictions are not those of the plan, or the method gives a map that is not finite.
    """
    if not np.array_equal(plan["row"], predictions["row"]):
        raise UserError(f"predictions: found {len(predictions)} rows that are not the plan's {len(plan)}; "
                        "`dvc repro` makes them again")  # fmt: skip
    targets = predictions["prediction"].to_numpy()
    rows = plan["row"].to_numpy()
    side = next(iter(pictures.values())).shape[0]
    maps = create_maps(maps_path, storage, len(plan), side)
    low, high = np.zeros(len(plan)), np.zeros(len(plan))
    with tqdm(total=len(plan), desc="explain", unit="map", disable=None) as progress:
        for batch in batches(model, weights, plan, predictions["state"].tolist(), pictures):
            at = batch.positions
            seeds = [stream_seed(seed, "explain", int(row)) for row in rows[at]]
            chosen = torch.tensor(targets[at]).to(batch.images.device)
            values = explain(batch.images, chosen, seeds).cpu().numpy()
            if values.shape != (len(at), side, side):
                raise UserError(
                    f"row {rows[at][0]}: found maps of shape {values.shape}; allowed: {(len(at), side, side)}"
                )
            finite = np.isfinite(values).all(axis=(1, 2))
            if not finite.all():
                raise UserError(f"row {rows[at][finite.argmin()]}: the method gave a map with NaN or infinity")
            stored = values.astype(maps.dtype)
            maps[at] = stored
            low[at], high[at] = stored.min(axis=(1, 2)), stored.max(axis=(1, 2))
            progress.update(len(at))
    maps.flush()
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
