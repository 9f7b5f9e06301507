"""What every row's model predicts for that row's own input; all methods share it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from pipeline.core.batches import batches
from pipeline.data.decode import Pixels
from pipeline.models.classifier import Classifier
from pipeline.models.state_names import RANDOM, TRAINED
from pipeline.models.states import States
from pipeline.models.sweep import Positions, sweep


def rows_of(plan: pd.DataFrame, labels: pd.Series, checkpoints: Mapping[int, str]) -> pd.DataFrame:
    """Return the rows of a plan for one model, with the state and the label of each.

    Args:
        plan: the table ``plan``.
        labels: class of each image, by its number.
        checkpoints: name of the state at each percent of the training that the model has.

    Returns:
        The rows without checkpoints that the model does not have, with the columns ``state`` and ``label``.
    """
    had = (plan["kind"] != "checkpoint") | plan["progress"].isin(list(checkpoints))
    rows = plan[had].reset_index(drop=True)
    states = [
        checkpoints[int(row.progress)] if row.kind == "checkpoint" else RANDOM if row.kind == "random" else TRAINED
        for row in rows.itertuples()
    ]
    return rows.drop(columns="progress").assign(state=states, label=labels.loc[rows["image"]].to_numpy())


def predict(states: States, rows: pd.DataFrame, pictures: Mapping[int, Pixels]) -> pd.DataFrame:
    """Predict the class of every row.

    Args:
        states: of the model.
        rows: see `rows_of`.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.

    Returns:
        The table ``rows`` (`pipeline.models.cell.ROWS`).
    """

    def scores(model: Classifier, images: torch.Tensor, positions: Positions) -> torch.Tensor:
        parts = batches(len(images), images.shape[-1], images.device)
        with torch.inference_mode():
            return torch.cat([model(images[part]).softmax(dim=1) for part in parts])

    prediction = np.zeros(len(rows), np.int64)
    probability = np.zeros(len(rows))
    for positions, result in sweep(states, rows, pictures, scores, at_once=1, what="predict"):
        prediction[positions] = result.argmax(axis=1)
        probability[positions] = result.max(axis=1).astype(np.float64).clip(0, 1)
    return rows.assign(prediction=prediction, probability=probability)
