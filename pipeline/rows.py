"""Rows as a stream of batches: every model state loaded once, images and perturbations mixed in a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from pipeline.compute import batch_size
from pipeline.images import Pixels
from pipeline.models import RANDOM, TRAINED, Classifier, checkpoint_epochs, load_state, state_name
from pipeline.transforms import apply_each


@dataclass(frozen=True)
class Batch:
    """Some rows of the plan, ready for a model.

    Attributes:
        positions: int64 (B,), positions of the rows in the plan.
        images: float32 (B, 3, H, W): perturbed and normalised.
    """

    positions: npt.NDArray[np.int64]
    images: torch.Tensor


def states(plan: pd.DataFrame, epochs: int) -> list[str]:
    """Return the name of the model state of every row, given the epochs of the whole training."""
    percents = tuple(int(percent) for percent in plan["progress"].dropna().unique())
    at = {percent: state_name(epoch) for percent, epoch in checkpoint_epochs(percents, epochs).items()}
    return [
        at[int(row.progress)] if row.kind == "checkpoint" else RANDOM if row.kind == "random" else TRAINED
        for row in plan.itertuples()
    ]


def batches(
    model: Classifier, weights: Path, plan: pd.DataFrame, row_states: list[str], pictures: dict[int, Pixels]
) -> Iterator[Batch]:
    """Stream the rows of a plan, one model state after the other.

    Args:
        model: its weights are replaced as the stream goes on.
        weights: folder with a safetensors file a state.
        plan: the table ``plan``.
        row_states: the state of every row.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.

    Yields:
        Batches in the order of the plan within a state.
    """
    names, transforms = np.array(row_states), plan["transform"].to_numpy(dtype=object)
    magnitudes = plan["magnitude"].to_numpy(dtype=np.float64, na_value=np.nan)
    images = plan["image"].to_numpy()
    side = next(iter(pictures.values())).shape[0]
    size = batch_size(side, model.mean.device)
    for state in dict.fromkeys(row_states):
        load_state(model, weights / f"{state}.safetensors")
        of_state = np.flatnonzero(names == state)
        for start in range(0, len(of_state), size):
            part = of_state[start : start + size]
            originals = np.stack([pictures[image] for image in images[part]])
            perturbed = apply_each(originals, transforms[part], magnitudes[part])
            yield Batch(part, model.normalize(perturbed))
