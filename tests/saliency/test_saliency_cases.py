"""Cases whose answer is known without a library."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models.classifier import Classifier
from pipeline.saliency.map_file import enlarge
from pipeline.saliency.method import METHODS
from pipeline.saliency.methods import blur_ig, guided_ig, integrated_gradients, lime, smooth_grad
from tests.conftest import SIDE, Patch, wrapped
from tests.settings import RAW, SMALL

LOGIT = {"images": "all", "score": "logit", "percentile": 100}


class Linear(nn.Module):
    """Two classes; the logit of class 1 is a weighted sum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = nn.Identity()
        self.weight = nn.Parameter(torch.from_numpy(np.random.default_rng(8).normal(size=(3, SIDE, SIDE))).float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = (self.identity(images) * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def linear() -> Classifier:
    return wrapped(Linear(), "identity").requires_grad_(False)


def test_integrated_gradients_of_a_linear_model_are_weights_times_input(linear, images) -> None:  # type: ignore[no-untyped-def]
    settings = integrated_gradients.Settings(steps=3, baseline=0.0, **LOGIT)
    targets = torch.ones(len(images), dtype=torch.int64)
    raw = integrated_gradients.attribute(linear, images, targets, settings)
    weight = linear.network.weight.detach().double()
    torch.testing.assert_close(raw, weight * images.double(), atol=1e-6, rtol=1e-6)
    gain = linear(images)[:, 1] - linear(torch.zeros_like(images))[:, 1]
    torch.testing.assert_close(raw.sum(dim=(1, 2, 3)).float(), gain, atol=1e-3, rtol=1e-4)


def test_guided_ig_of_a_linear_model_is_complete(linear, images) -> None:  # type: ignore[no-untyped-def]
    # The gradient is the same everywhere, so every path gives weights times input.
    settings = guided_ig.Settings(steps=10, baseline=0.0, fraction=0.25, max_dist=0.1, **LOGIT)
    targets = torch.ones(len(images), dtype=torch.int64)
    raw = guided_ig.attribute(linear, images, targets, settings)
    torch.testing.assert_close(raw, linear.network.weight.detach().double() * images.double(), atol=1e-6, rtol=1e-6)


def test_smooth_grad_of_a_linear_model_is_the_squared_weight(linear, images) -> None:  # type: ignore[no-untyped-def]
    settings = smooth_grad.Settings(samples=3, noise=0.2, squared=True, **LOGIT)
    noise = torch.stack([smooth_grad.draw_noise(images.shape[1:], 3, seed) for seed in range(len(images))])
    raw = smooth_grad.attribute(linear, images, torch.ones(len(images), dtype=torch.int64), settings, noise=noise)
    weight = linear.network.weight.detach().double()
    torch.testing.assert_close(raw, weight.square().expand_as(raw), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("module", [integrated_gradients, guided_ig])
def test_attributions_add_up_to_the_change_of_the_score(module, convnet, images, targets) -> None:  # type: ignore[no-untyped-def]
    extra = {"fraction": 0.25, "max_dist": 0.02} if module is guided_ig else {}
    settings = module.Settings(images="all", steps=200, baseline=0.0, score="softmax", percentile=99, **extra)
    raw = module.attribute(convnet, images, targets, settings).sum(dim=(1, 2, 3))
    rows = torch.arange(len(targets))
    score = convnet(images).softmax(1)[rows, targets] - convnet(torch.zeros_like(images)).softmax(1)[rows, targets]
    torch.testing.assert_close(raw.float(), score, atol=0.02, rtol=0.02)


def test_blur_ig_adds_up_to_the_change_from_the_blurred_image(convnet, images, targets) -> None:  # type: ignore[no-untyped-def]
    settings = blur_ig.Settings(images="all", steps=300, max_sigma=6.0, grad_step=0.001, score="softmax", percentile=99)
    raw = blur_ig.attribute(convnet, images, targets, settings).sum(dim=(1, 2, 3))
    blur = torch.from_numpy(blur_ig.blur_matrix(SIDE, 6.0))
    end = (blur @ images.double() @ blur.T).float()
    rows = torch.arange(len(targets))
    score = convnet(images).softmax(1)[rows, targets] - convnet(end).softmax(1)[rows, targets]
    torch.testing.assert_close(raw.float(), score, atol=0.02, rtol=0.05)


# An extremal mask always fills its area, and sees the image mirrored: test_extremal_perturbation.py has its patch. A
# method that is new may smooth its maps; the contract tests hold it to more than chance.
EXACT = [name for name in RAW if not METHODS[name].control and name != "extremal_perturbation"]


@pytest.mark.parametrize("name", EXACT)
def test_all_mass_lies_on_the_patch_that_the_model_looks_at(name: str, patch: Classifier, images: torch.Tensor) -> None:
    # LIME always fills its quota of superpixels, so it is asked for the one that counts most.
    settings = SMALL[name].model_copy(update={"features": 1}) if name == "lime" else SMALL[name]
    maps = METHODS[name].explain(patch, images, torch.zeros(len(images), dtype=torch.int64), settings, list(range(5)))
    maps = torch.from_numpy(np.stack([enlarge(one, SIDE, METHODS[name].values) for one in maps.numpy()]))
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[Patch.TOP : Patch.TOP + Patch.SIZE, Patch.LEFT : Patch.LEFT + Patch.SIZE] = True
    mass = maps.abs().sum(dim=(1, 2))
    share = (maps.abs() * inside).sum(dim=(1, 2)) / mass
    assert (mass > 0).all()
    # A superpixel that touches the patch may reach beyond it.
    assert (share > (0.999 if name != "lime" else 0.1)).all(), share


def test_lime_finds_the_superpixels_that_count() -> None:
    rng = np.random.default_rng(1)
    shown = rng.integers(0, 2, (400, 6)).astype(float)
    shown[0] = 1
    answers = 0.5 + 0.3 * shown[:, 4] - 0.2 * shown[:, 1]
    kept, weights = lime.linear_model(shown, answers, 2, 0.25)
    assert kept.tolist() == [4, 1]
    assert weights[0] > 0 > weights[1]


def test_blur_matrix_keeps_what_is_far_from_the_border() -> None:
    matrix = blur_ig.blur_matrix(41, 2.0)
    assert matrix[20].sum() == pytest.approx(1)
    assert matrix[0].sum() < 0.7
    np.testing.assert_allclose(matrix, matrix.T)


def _fraction_changed(maps: Sequence[torch.Tensor]) -> list[float]:
    return [float((a != b).float().mean()) for a, b in pairwise(maps)]


@pytest.mark.parametrize("name", ["smooth_grad", "lime"])
def test_random_methods_change_with_the_seed_and_only_with_it(name: str, convnet, images, targets) -> None:  # type: ignore[no-untyped-def]
    explain, settings = METHODS[name].explain, SMALL[name]
    if name == "lime":
        settings = settings.model_copy(update={"samples": 8})
    first, again, other = (explain(convnet, images, targets, settings, [s] * 5) for s in (1, 1, 2))
    same, different = _fraction_changed([first, again, other])
    assert same == 0
    assert different > 0.01
