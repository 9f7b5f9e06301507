"""What every row's model predicts for that row's own input; all methods share it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.compute import batch_size, with_smaller_batches, workers
from pipeline.images import Pixels
from pipeline.models import Classifier
from pipeline.parallel import in_order
from pipeline.rows import Inputs, Part, States, parts, states


def predict(
    model: Classifier, weights: Path, plan: pd.DataFrame, splits: pd.DataFrame, pictures: Mapping[int, Pixels],
    checkpoints: Mapping[int, str],
) -> pd.DataFrame:  # fmt: skip
    """Predict the class of every row.

    Args:
        model: on its device.
        weights: folder with a safetensors file a state.
        plan: the table ``plan``.
        splits: the table ``splits``, for the labels.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        checkpoints: name of the state at each percent of the training that the plan asks for.

    Returns:
        The table ``predictions`` (see `pipeline.tables`).
    """
    row_states = states(plan, checkpoints)
    inputs = Inputs(plan, pictures)
    on = model.mean.device
    prepared = States(model, weights, inputs.side)
    size = batch_size(inputs.side, on)

    def work(part: Part) -> tuple[Part, npt.NDArray[np.float32]]:
        pixels = inputs.pixels(part.positions)

        def scores() -> torch.Tensor:
            own = prepared.model(part.state)
            chunks = own.normalize(pixels).split(batch_size(inputs.side, on))
            with torch.inference_mode():
                return torch.cat([own(chunk).softmax(dim=1) for chunk in chunks]).cpu()

        return part, with_smaller_batches(scores, inputs.side, on).numpy()

    prediction = np.zeros(len(plan), np.int64)
    probability = np.zeros(len(plan))
    with (
        tqdm(total=len(plan), desc="predict", unit="row", disable=None) as progress,
        closing(in_order(work, parts(row_states, size), workers(on))) as results,
    ):
        for part, scores in results:
            prediction[part.positions] = scores.argmax(axis=1)
            probability[part.positions] = scores.max(axis=1).astype(np.float64).clip(0, 1)
            progress.update(len(part.positions))
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
