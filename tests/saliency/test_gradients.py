"""Gradients and sums over a path: what they do not depend on, and layers that a map cannot be read from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_and_gradients
from pipeline.saliency.gradients import Combine, Score, gradient, sum_over_path
from pipeline.saliency.method import METHODS
from tests.conftest import SIDE, wrapped
from tests.settings import SMALL

PATHS = ["blur_ig", "integrated_gradients", "smooth_grad"]
"""Methods that add up gradients over a path."""


def path_sum(model: Classifier, images: torch.Tensor, targets: torch.Tensor, steps: int, score: Score) -> torch.Tensor:
    """Sum the squared gradients times the step over a path from black to the images."""

    def step(rows: torch.Tensor, number: torch.Tensor) -> tuple[torch.Tensor, Combine]:
        alpha = ((number + 1) / steps).view(-1, 1, 1, 1)
        return alpha * images[rows], lambda gradients: gradients**2 * alpha

    return sum_over_path(model, images, targets, score, steps=steps, step=step)


@pytest.mark.parametrize("score", ["softmax", "logit"])
@pytest.mark.parametrize("size", ["1", "2", "3", "5", "64"])
def test_sums_do_not_depend_on_how_the_steps_are_cut_into_batches(
    size: str,
    score: Score,
    convnet: Classifier,
    images: torch.Tensor,
    targets: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COSE_BATCH", size)
    found = path_sum(convnet, images, targets, 7, score)
    one_by_one = torch.zeros_like(found)
    for row, (image, target) in enumerate(zip(images, targets, strict=True)):
        for number in range(7):
            alpha = (number + 1) / 7
            single = gradient(convnet, alpha * image[None], target[None], score)[0].double()
            one_by_one[row] += single**2 * alpha
    assert found.dtype == torch.float64
    assert one_by_one.abs().max() > 0
    torch.testing.assert_close(found, one_by_one, atol=1e-6 * float(one_by_one.abs().max()), rtol=1e-4)


def test_a_path_without_steps_is_zero(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    assert (path_sum(convnet, images, targets, 0, "logit") == 0).all()


@pytest.mark.parametrize("name", PATHS)
def test_maps_do_not_depend_on_how_the_steps_are_cut_into_batches(
    name: str, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = []
    for size in ("1", "3", "64"):
        monkeypatch.setenv("COSE_BATCH", size)
        convnet.cache.clear()
        maps.append(METHODS[name].explain(convnet, images, targets, SMALL[name], [1, 2, 3, 4, 5]))
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], atol=2e-4, rtol=0)
    convnet.cache.clear()


class Repeated(nn.Module):
    """A network whose layer runs a number of times in a forward pass."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.layer, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for _ in range(self.times):
            images = self.layer(images).relu()
        return self.head(images.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].at_layer])
@pytest.mark.parametrize("times", [0, 2])
def test_a_layer_that_does_not_run_once_is_one_line(name: str, times: int, images: torch.Tensor) -> None:
    model = wrapped(Repeated(times), "layer").requires_grad_(False)
    targets = torch.zeros(len(images), dtype=torch.int64)
    message = rf"models\.\*\.cam_layer: found 'layer', which runs {times} times in a forward pass; allowed: a"
    with pytest.raises(UserError, match=message):
        METHODS[name].explain(model, images, targets, SMALL[name], [0] * len(images))
    assert not model.cam_layer._forward_hooks
    assert "forward" not in vars(model.cam_layer)
    model = wrapped(Repeated(1), "layer").requires_grad_(False)
    activations, gradients = activations_and_gradients(model, images, targets)
    assert activations.shape == gradients.shape == (len(images), 3, SIDE, SIDE)


def test_what_follows_the_layer_may_work_in_place(images: torch.Tensor) -> None:
    def network(inplace: bool) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    targets = torch.tensor([0, 1, 2, 3, 0])
    found: list[Any] = [
        activations_and_gradients(wrapped(network(inplace), "0").requires_grad_(False), images, targets)
        for inplace in (True, False)
    ]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    assert np.asarray(found[0][0]).min() < 0, "the activations are those before the layer that works in place"
