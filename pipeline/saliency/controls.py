"""What the controls share: maps that know nothing of the model, which a method should do better than."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.saliency.method import Cost


def cost(settings: Any) -> Cost:
    """No evaluation of the model."""
    return Cost()


def random_maps(seeds: Sequence[int], side: int, device: torch.device) -> torch.Tensor:
    """Return noise, uniform in [0, 1): float32 (N, side, side), each map from its row's seed."""
    drawn = [np.random.default_rng(seed).random((side, side), dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(drawn)).to(device)
