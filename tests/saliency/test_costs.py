"""What methods say they cost is what they ask of the model, in batches that the budget allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from pipeline.core.batches import batch_size
from pipeline.models.classifier import Classifier
from pipeline.saliency.method import METHODS, Cost
from pipeline.saliency.methods import ablation_cam
from tests.settings import SMALL

CHANNELS = 12
"""Of the small network's layer."""


@contextmanager
def counted(model: Classifier) -> Iterator[tuple[Counter[str], list[int]]]:
    """Count images whose scores are asked for and whose scores are differentiated, and note the sizes of batches."""
    images: Counter[str] = Counter()
    sizes: list[int] = []

    def note(network: Any, inputs: tuple[torch.Tensor]) -> None:
        images["gradient" if inputs[0].requires_grad else "forward"] += len(inputs[0])
        sizes.append(len(inputs[0]))

    handle = model.network.register_forward_pre_hook(note)
    try:
        yield images, sizes
    finally:
        handle.remove()


@pytest.mark.parametrize("name", METHODS)
def test_evaluations(name: str, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    cost = METHODS[name].cost(SMALL[name]).for_channels(CHANNELS)
    with counted(convnet) as (found, _):
        METHODS[name].explain(convnet, images, targets, SMALL[name], list(range(5)))
    forward, gradient = found["forward"] / 5, found["gradient"] / 5
    if name == "ablation_cam":
        # Every channel goes through what follows the layer, and so many of these are taken for one forward pass.
        assert (forward, gradient) == (1 + CHANNELS, 0)
        assert (cost.forward, cost.gradient) == (1 + -(-CHANNELS // ablation_cam.TAILS), 0)
    elif name == "integrated_gradients":
        assert forward == 0
        assert cost.gradient <= gradient <= cost.gradient + 1, "the baseline's gradient is kept for every class"
    elif name == "lime":
        assert gradient == 0
        assert 1 < forward <= cost.forward, "samples that are the same are asked about once"
    else:
        assert (forward, gradient) == (cost.forward, cost.gradient)


@pytest.mark.parametrize("name", METHODS)
def test_batches(
    name: str, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSE_BATCH", "3")
    settings = SMALL[name].model_copy(update={"iterations": 2} if hasattr(SMALL[name], "iterations") else {})
    rows = max(1, batch_size(images.shape[-1], images.device) // METHODS[name].cost(settings).at_once)
    with counted(convnet) as (_, sizes):
        METHODS[name].explain(convnet, images[:rows], targets[:rows], settings, [0] * rows)
    allowed = 3 * ablation_cam.TAILS if name == "ablation_cam" else 3
    assert max(sizes, default=0) <= allowed
    full = {"ablation_cam": CHANNELS, "score_cam": 3, "opti_cam": 3, "extremal_perturbation": 3}
    assert name not in full or max(sizes) == full[name]


def test_channels_are_counted_in_whole_passes() -> None:
    assert Cost(forward=1, gradient=2, at_once=3).for_channels(640) == Cost(forward=1, gradient=2, at_once=3)
    assert Cost(forward=1, per_channel=1).for_channels(640).forward == 641
    assert Cost(forward=1, per_channel=1 / 8).for_channels(17).forward == 4
