"""A model whose reasons are known, pictures for it, and small settings for every metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import nn

from pipeline.metrics.faithfulness.batch import Batch, Method
from pipeline.metrics.faithfulness.measure import measure_limits, measure_rows
from pipeline.metrics.faithfulness.metric import METRICS
from pipeline.models.classifier import Classifier
from tests.conftest import MEAN, SIDE, STD, wrapped

MASKS = {"masked": "picture"}
CUT = {"masked": "picture", "percentile": 75.0}
DELETION = {"steps": 12, "fill": "black"}
INSERTION = {"steps": 12, "kernel": 11, "sigma": 5.0}
PATCHES = {"patches": 4, "search": "single"}
ROAD = {"percents": [10, 30, 50], "noise": 0.01}
RAW: dict[str, dict[str, Any]] = {
    "deletion": DELETION,
    "insertion": INSERTION,
    "deletion_normalized": DELETION | PATCHES,
    "insertion_normalized": INSERTION | PATCHES,
    "pixel_flipping": DELETION | {"share": 0.5},
    "tied_pixels": {},
    "infidelity": {"samples": 40, "noise": 0.2},
    "sensitivity_max": {"samples": 3, "radius": 0.02},
    **{name: ROAD for name in METRICS if name.startswith("road")},
    **{name: CUT if name.endswith("cut") else MASKS for name in METRICS if name.startswith(("average", "confidence"))},
}


def small(name: str) -> Any:
    """Return small settings; a metric without any is measured with those of params.yaml."""
    raw = RAW.get(name)
    if raw is None:
        raw = yaml.safe_load(Path("params.yaml").read_text())["faithfulness"][name]
    return METRICS[name].settings.model_validate(raw)


class OneState:
    """A model in its only state."""

    def __init__(self, model: Classifier) -> None:
        self._model, self.device = model, model.mean.device

    def model(self, state: str) -> Classifier:
        assert state == "trained"
        return self._model


def table(count: int, targets: Any, kind: str = "reference") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": np.arange(count) + 100,
            "turn": np.arange(count),
            "image": np.arange(count),
            "kind": kind,
            "transform": "identity",
            "magnitude": pd.array([None] * count, dtype="Float64"),
            "state": "trained",
            "prediction": np.asarray(targets, np.int64),
        }
    )


def linear(weights: np.ndarray, bias: float = 0.0) -> Classifier:
    """Return a model whose logit of class 1 is the weighted sum of the pictures' grey values in [0, 1], and 0 else."""
    side = len(weights)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * side**2, 2))
    std, mean = (np.array(one)[:, None, None] for one in (STD, MEAN))
    own = np.broadcast_to(weights / 3, (3, side, side))
    network[1].weight.data = torch.tensor(np.stack([np.zeros(3 * side**2), (own * std).ravel()]), dtype=torch.float32)
    network[1].bias.data = torch.tensor([0.0, bias + float((own * mean).sum())])
    return wrapped(network, "0").requires_grad_(False)


def measured(
    names: list[str] | str,
    model: Classifier,
    pixels: np.ndarray,
    targets: Any,
    maps: np.ndarray,
    *,
    values: Any = "unit",
    seed: int = 0,
    method: Method | None = None,
    rows: pd.DataFrame | None = None,
    settings: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Return the table of some metrics."""
    chosen = settings or {name: small(name) for name in ([names] if isinstance(names, str) else names)}
    rows = table(len(pixels), targets) if rows is None else rows
    pictures = dict(enumerate(pixels))
    states: Any = OneState(model)
    limits = measure_limits(chosen, states, rows, pictures, seed=seed)
    if method is None:
        method = Method(lambda model, images, targets, seeds: images.abs().mean(dim=1).clamp(0, 1), values)
    return measure_rows(
        chosen, states, rows, pictures, maps=list(maps), values=values, seed=seed, method=method, limits=limits
    )


def one(found: pd.DataFrame, name: str, at: float | None = None) -> np.ndarray:
    """Return a metric's values, in the order of the rows."""
    own = found[(found["metric"] == name) & (found["at"].isna() if at is None else found["at"] == at)]
    return own["value"].to_numpy(dtype=float, na_value=np.nan)


def batch_of(model: Classifier, images: torch.Tensor, targets: Any, maps: np.ndarray | None) -> Batch:
    return Batch(model, images, torch.as_tensor(targets), maps, list(range(len(images))))


OBJECT = np.zeros((SIDE, SIDE))
OBJECT[6:14, 8:18] = 1
