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
from pipeline.models.trained import RowKind

STATE_COLUMNS: dict[RowKind, str] = {"checkpoint": "progress", "layers": "layers"}
"""The column of the plan that says which state a row of some kind wants."""


def rows_of(plan: pd.DataFrame, labels: pd.Series, further: Mapping[RowKind, Mapping[int, str]]) -> pd.DataFrame:
    """Return the rows of a plan for one model, with the state and the label of each.

    Args:
        plan: the table ``plan``.
        labels: class of each image, by its number.
        further: the states that the model has beside ``trained`` and ``random``; see
            `pipeline.models.trained.read_further_states`.

    Returns:
        The rows without those whose state the model does not have, with the columns ``state`` and ``label``.
    """
    states = pd.Series(TRAINED, index=plan.index).mask(plan["kind"] == "random", RANDOM)
    for kind, column in STATE_COLUMNS.items():
        named = plan[column].map(dict(further.get(kind, {})))
        states = states.mask(plan["kind"] == kind, named)
    rows = plan.drop(columns=list(STATE_COLUMNS.values())).assign(state=states)
    rows = rows[states.notna()].reset_index(drop=True)
    return rows.assign(label=labels.loc[rows["image"]].to_numpy())


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
