"""A plan, pictures, weights and predictions that are small enough to compute all of them in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.data.plan import draw_plan
from pipeline.data.plan_settings import PlanSettings
from pipeline.data.transforms import TRANSFORMS
from pipeline.models.prediction import predict, rows_of
from pipeline.models.states import States
from pipeline.models.trained import save_state
from pipeline.saliency.explain import explain_rows
from pipeline.saliency.method import METHODS
from tests.conftest import CLASSES, SIDE, small_convnet
from tests.settings import SMALL

CHECKPOINTS = {10: "epoch_001", 60: "epoch_006"}
PLAN = PlanSettings(images=6, magnitudes=2, transforms=tuple(TRANSFORMS), checkpoints=(10, 60))


@pytest.fixture(scope="module")
def splits() -> pd.DataFrame:
    labels = np.arange(40) % CLASSES
    return pd.DataFrame(
        {
            "image": np.arange(40),
            "name": [str(i) for i in range(40)],
            "label": labels,
            "class_name": [str(label) for label in labels],
            "split": (["train"] * 3 + ["test"] * 2) * 8,
        }
    )


@pytest.fixture(scope="module")
def plan(splits: pd.DataFrame) -> pd.DataFrame:
    return draw_plan(splits, PLAN, SIDE, 0, dataset="chain")


@pytest.fixture(scope="module")
def pictures(plan: pd.DataFrame) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(1)
    return {int(i): rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for i in plan["image"].unique()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    model = small_convnet()
    save_state(model, folder / "trained.safetensors")
    for number, state in enumerate(("random", "epoch_001", "epoch_006")):
        other = small_convnet()
        torch.manual_seed(number)
        for parameter in other.parameters():
            parameter.data = torch.randn_like(parameter)
        save_state(other, folder / f"{state}.safetensors")
    return folder


def states_in(weights: Path) -> States:
    return States(small_convnet(), weights, SIDE)


def predicted(
    plan: pd.DataFrame,
    splits: pd.DataFrame,
    pictures: dict[int, np.ndarray],
    weights: Path,
    checkpoints: dict[int, str] = CHECKPOINTS,
) -> pd.DataFrame:
    return predict(
        states_in(weights), rows_of(plan, splits.set_index("image")["label"], {"checkpoint": checkpoints}), pictures
    )


@pytest.fixture(scope="module")
def rows(plan: pd.DataFrame, splits: pd.DataFrame, pictures: dict[int, np.ndarray], weights: Path) -> pd.DataFrame:
    return predicted(plan, splits, pictures, weights)


def explained(name: str, states: States, rows: pd.DataFrame, pictures: Any, path: Path) -> np.ndarray:
    method, settings = METHODS[name], SMALL[name]

    def explain(model, images, targets, seeds):  # type: ignore[no-untyped-def]
        return method.explain(model, images, targets, settings, seeds)

    explain_rows(
        states,
        rows,
        pictures,
        explain,
        values=method.values,
        storage=method.stored_as,
        at_once=method.cost(settings).at_once,
        seed=0,
        maps_path=path,
    )
    return np.load(path)
