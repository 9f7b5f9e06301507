"""What every row's model predicts for that row's own input; all methods share it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.images import Pixels
from pipeline.models import Classifier
from pipeline.rows import batches, states


def predict(
    model: Classifier, weights: Path, plan: pd.DataFrame, splits: pd.DataFrame, pictures: dict[int, Pixels], epochs: int
) -> pd.DataFrame:
    """Predict the class of every row.

    Args:
        model: on its device.
        weights: folder with a safetensors file a state.
        plan: the table ``plan``.
        splits: the table ``splits``, for the labels.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        epochs: of the whole training, to find the checkpoints.

    Returns:
        The table ``predictions`` (see `pipeline.tables`).
    """
    row_states = states(plan, epochs)
    prediction = np.zeros(len(plan), np.int64)
    probability = np.zeros(len(plan))
    with tqdm(total=len(plan), desc="predict", unit="row", disable=None) as progress, torch.inference_mode():
        for batch in batches(model, weights, plan, row_states, pictures):
            score, best = model(batch.images).softmax(dim=1).max(dim=1)
            prediction[batch.positions] = best.cpu().numpy()
            probability[batch.positions] = score.double().clamp(0, 1).cpu().numpy()
            progress.update(len(batch.positions))
    labels = splits.set_index("image")["label"]
    return pd.DataFrame(
        {
            "row": plan["row"],
            "state": row_states,
            "label": labels.loc[plan["image"]].to_numpy(),
            "prediction": prediction,
            "probability": probability,
        }
    )
