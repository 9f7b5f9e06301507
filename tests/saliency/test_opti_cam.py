"""Opti-CAM against a straightforward version, one image at a time with torch's own optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.models.classifier import Classifier
from pipeline.saliency.map_file import enlarge
from pipeline.saliency.methods import opti_cam
from pipeline.saliency.methods.opti_cam import Settings
from tests.conftest import wrapped
from tests.models.networks import FAMILIES, of_family

SETTINGS = Settings(images="all", iterations=15, learning_rate=0.1)


def straight(model: Classifier, image: torch.Tensor, target: int, settings: Settings) -> tuple[np.ndarray, int]:
    """Return the map of one image (1, 3, S, S), at its size, and the steps that were taken."""
    kept: list[torch.Tensor] = []
    handle = model.cam_layer.register_forward_hook(lambda layer, inputs, output: kept.append(output.detach().clone()))
    model(image)
    handle.remove()
    features = model.grid(kept[0]).relu()
    u = torch.zeros(1, features.shape[1], 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([u], lr=settings.learning_rate)

    def saliency() -> torch.Tensor:
        combined = (u.softmax(dim=1) * features).sum(dim=1, keepdim=True)
        large = F.interpolate(combined, size=image.shape[2:], mode="bilinear", align_corners=False)
        return (large - large.min()) / (large.max() - large.min())

    seen, steps = -float("inf"), 0
    for step in range(settings.iterations):
        if settings.masked == "picture":
            masked = ((image * model.std + model.mean) * saliency() - model.mean) / model.std
        else:
            masked = image * saliency()
        # torch 2.14 differentiates XCiT's patch embedding wrongly for one image whose channels come first.
        logit = model(masked.contiguous(memory_format=torch.channels_last))[0, target]
        if settings.check_every and step % settings.check_every == 0:
            if logit.item() < seen:
                break
            seen = logit.item()
        optimizer.zero_grad()
        (-logit).backward()
        optimizer.step()
        steps += 1
    return saliency().detach()[0, 0].numpy(), steps


def enlarged(maps: torch.Tensor, side: int) -> np.ndarray:
    return np.stack([enlarge(one, side, "unit") for one in maps.numpy()])


@pytest.mark.parametrize("changes", [{}, {"masked": "normalised"}, {"learning_rate": 0.5, "check_every": 1}])
def test_as_one_image_at_a_time(
    changes: dict[str, Any], convnet: Classifier, images: torch.Tensor, targets: torch.Tensor
) -> None:
    settings = SETTINGS.model_copy(update=changes)
    maps = enlarged(opti_cam.explain(convnet, images, targets, settings, [0] * 5), images.shape[-1])
    own = [straight(convnet, images[at : at + 1], int(targets[at]), settings) for at in range(5)]
    np.testing.assert_allclose(maps, np.stack([one for one, _ in own]), atol=1e-3)
    steps = [taken for _, taken in own]
    assert (len(set(steps)) > 1) == ("check_every" in changes), "rows that stop early stop at different steps"


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    model = of_family(family)[0].requires_grad_(False)
    inputs = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 3, 56, 56))).float()
    targets = torch.tensor([4, 0, 2])
    settings = SETTINGS.model_copy(update={"iterations": 4})
    maps = opti_cam.explain(model, inputs, targets, settings, [0] * 3)
    assert maps.shape == (3, 7, 7)
    expected = np.stack([straight(model, inputs[at : at + 1], int(targets[at]), settings)[0] for at in range(3)])
    # Adam takes a step of nearly full length wherever a gradient is not zero, so rounding shows.
    np.testing.assert_allclose(enlarged(maps, 56), expected, atol=5e-3)
    assert expected.std(axis=(1, 2)).min() > 0.05


def test_the_logit_rises(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    def reached(iterations: int) -> torch.Tensor:
        settings = SETTINGS.model_copy(update={"iterations": iterations})
        maps = enlarged(opti_cam.explain(convnet, images, targets, settings, [0] * 5), images.shape[-1])
        black = -convnet.mean / convnet.std
        shown = black + (images - black) * torch.from_numpy(maps).float()[:, None]
        return convnet(shown)[torch.arange(5), targets]

    assert (reached(40) > reached(1)).all()


@pytest.mark.parametrize("check_every", [None, 1, 3])
def test_rows_do_not_touch_each_other(
    check_every: int | None, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor
) -> None:
    settings = SETTINGS.model_copy(update={"check_every": check_every, "learning_rate": 0.5})
    together = opti_cam.explain(convnet, images, targets, settings, [0] * 5)
    for at in range(5):
        alone = opti_cam.explain(convnet, images[at : at + 1], targets[at : at + 1], settings, [0])
        torch.testing.assert_close(together[at : at + 1], alone, atol=1e-4, rtol=0)


def test_both_ways_to_enlarge() -> None:
    maps = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    by_matrices = opti_cam._bilinear(5, 20, maps.device) @ maps @ opti_cam._bilinear(7, 18, maps.device).T
    torch.testing.assert_close(opti_cam.enlarge(maps, 20, 18), by_matrices, atol=1e-6, rtol=0)


class TwoChannels(nn.Module):
    """Its layer sees the upper half in one channel and the lower half in the other; the class counts the lower one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grey = images.mean(dim=1) + 3
        top, bottom = grey.clone(), grey.clone()
        half = grey.shape[1] // 2
        top[:, half:] = 0
        bottom[:, :half] = 0
        seen = self.layer(torch.stack([top, bottom], dim=1))
        score = seen[:, 1].mean(dim=(1, 2)) - seen[:, 0].mean(dim=(1, 2))
        return torch.stack([score, -score], dim=1)


def test_the_channel_that_counts_is_found(images: torch.Tensor) -> None:
    model, half = wrapped(TwoChannels(), "layer").requires_grad_(False), images.shape[-1] // 2
    settings = SETTINGS.model_copy(update={"iterations": 50})
    for target, counts in ((0, slice(half, None)), (1, slice(None, half))):
        maps = opti_cam.explain(model, images, torch.full((5,), target), settings, [0] * 5)
        assert (maps[:, counts].sum(dim=(1, 2)) > 0.8 * maps.sum(dim=(1, 2))).all()


class Constant(nn.Module):
    """A layer that gives the same everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.layer, self.value = nn.Identity(), value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.layer(torch.full_like(images[:, :2, ::4, ::4], self.value))
        return seen.mean(dim=(2, 3)) + images.mean(dim=(1, 2, 3))[:, None]


@pytest.mark.parametrize("value", [0.0, -1.0, 0.7])
def test_constant_activations_give_zeros_and_not_nan(value: float, images: torch.Tensor) -> None:
    model = wrapped(Constant(value), "layer").requires_grad_(False)
    assert (opti_cam.explain(model, images, torch.zeros(5, dtype=torch.int64), SETTINGS, [0] * 5) == 0).all()
