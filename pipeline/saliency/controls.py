"""What the controls share: maps that do not look at the model, which a method should do better than."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.saliency.method import Cost, Method, MethodSettings

if TYPE_CHECKING:
    from pipeline.models.classifier import Classifier


class NoSettings(MethodSettings):
    """There is nothing to choose."""


def cost(settings: Any) -> Cost:
    """No evaluation of the model."""
    return Cost()


def random_maps(seeds: Sequence[int], side: int, device: torch.device) -> torch.Tensor:
    """Return noise, uniform in [0, 1): float32 (N, side, side), each map from its row's seed."""
    drawn = [np.random.default_rng(seed).random((side, side), dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(drawn)).to(device)


def noise_on_grid(side: int) -> Method:
    """Return the control whose maps are noise on a grid, enlarged when they are read.

    Its maps are float32 (N, side, side), or as large as an image that is smaller, each from its row's seed.
    """

    def explain(
        model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: NoSettings, seeds: Sequence[int]
    ) -> torch.Tensor:
        return random_maps(seeds, min(side, images.shape[-1]), images.device)

    return Method(NoSettings, explain, "unit", cost, storage="float32", control=True)
