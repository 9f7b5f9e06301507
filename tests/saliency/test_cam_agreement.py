"""The CAM family against grad-cam where that is right, and against plain loops where it is not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_grad_cam import EigenCAM, EigenGradCAM, LayerCAM, ScoreCAM, XGradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

from pipeline.models.classifier import Classifier
from pipeline.models.tail import tail
from pipeline.saliency.cams import activations_alone, activations_and_gradients, principal_map
from pipeline.saliency.map_file import enlarge
from pipeline.saliency.method import METHODS
from pipeline.saliency.methods import ablation_cam, eigen_cam, eigen_grad_cam, layer_cam, score_cam, x_grad_cam
from tests.models.networks import FAMILIES, of_family
from tests.settings import SMALL

SIDE = 56
Grid = Callable[[torch.Tensor], torch.Tensor]
Family = tuple[Classifier, Grid, torch.Tensor, torch.Tensor]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    model, to_grid = of_family(request.param)
    inputs = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 3, SIDE, SIDE))).float()
    return model.requires_grad_(False), to_grid, inputs, torch.tensor([4, 0, 2])


def ours(method: Any, model: Classifier, inputs: torch.Tensor, targets: torch.Tensor, **settings: Any) -> np.ndarray:
    stored = method.explain(model, inputs, targets, method.Settings(images="all", **settings), [0, 0, 0])
    assert stored.shape == (3, 7, 7)
    return np.stack([enlarge(one, SIDE, "unit") for one in stored.numpy()])


def theirs(kind: Any, model: Classifier, to_grid: Grid, inputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    with kind(model=model.network, target_layers=[model.cam_layer], reshape_transform=to_grid) as explainer:
        explainer.compute_input_gradient = True  # the weights are frozen, and something has to ask for gradients
        maps: np.ndarray = explainer(inputs, [ClassifierOutputTarget(target) for target in targets.tolist()])
    assert np.ptp(maps, axis=(1, 2)).max() > 0.5
    return maps


@pytest.mark.parametrize(("method", "kind"), [(x_grad_cam, XGradCAM), (layer_cam, LayerCAM)])
def test_as_grad_cam_does(method: Any, kind: Any, family: Family) -> None:
    model, to_grid, inputs, targets = family
    # XGrad-CAM divides by a channel's sum, which is near zero in some: rounding shows there.
    expected = theirs(kind, model, to_grid, inputs, targets)
    np.testing.assert_allclose(ours(method, model, inputs, targets), expected, atol=1e-4)


@pytest.mark.parametrize(("method", "kind"), [(eigen_cam, EigenCAM), (eigen_grad_cam, EigenGradCAM)])
def test_as_grad_cam_does_up_to_the_sign(method: Any, kind: Any, family: Family) -> None:
    model, to_grid, inputs, targets = family
    activations, gradients = activations_and_gradients(model, inputs, targets)
    values = activations if method is eigen_cam else activations * gradients
    found, projected = principal_map(values).numpy(), get_2d_projection(values.numpy())
    largest = np.abs(projected).max(axis=(1, 2), keepdims=True)
    assert np.minimum(np.abs(found - projected), np.abs(found + projected)).max() < 1e-3 * largest.max()
    assert (found.max(axis=(1, 2)) >= -found.min(axis=(1, 2))).all()
    turned = np.sign((found * projected).sum(axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(found / largest, turned * projected / largest, atol=1e-3)
    # Where the library's sign is ours by chance, its whole map is.
    expected = theirs(kind, model, to_grid, inputs, targets)
    same = turned[:, 0, 0] > 0
    np.testing.assert_allclose(ours(method, model, inputs, targets)[same], expected[same], atol=2e-3)


def test_principal_maps_of_more_places_than_channels() -> None:
    values = (
        torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(2))
        * torch.tensor([3.0, 1.0, 0.5])[:, None, None]
    )
    found, projected = principal_map(values).numpy(), get_2d_projection(values.numpy())
    turned = np.sign((found * projected).sum(axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(found, turned * projected, atol=1e-5)


def test_score_cam_as_grad_cam_does(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model, to_grid, inputs, targets = family
    # Here alone the library enlarges corner on corner; the authors' code does not, and neither do its final maps.
    upsampling = partial(torch.nn.Upsample, mode="bilinear", align_corners=False)
    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", upsampling)
    expected = theirs(ScoreCAM, model, to_grid, inputs, targets)
    maps = ours(score_cam, model, inputs, targets, score="logit", masked="normalised")
    np.testing.assert_allclose(maps, expected, atol=1e-3)


@pytest.mark.parametrize("score", ["logit", "softmax"])
def test_score_cam_by_hand(score: Any, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    """Every channel alone, its mask times the picture in [0, 1]: black where the channel is lowest."""
    settings = score_cam.Settings(images="all", score=score, masked="picture")
    maps = score_cam.explain(convnet, images, targets, settings, [0] * 5)
    activations = activations_alone(convnet, images)
    for image, target, channels, found in zip(images, targets.tolist(), activations, maps.numpy(), strict=True):
        picture, scores = image * convnet.std[0] + convnet.mean[0], []
        for channel in channels.numpy():
            mask = torch.from_numpy(enlarge(channel - channel.min(), images.shape[-1], "unit")).float()
            logits = convnet((picture * mask - convnet.mean) / convnet.std)[0]
            scores.append(float((logits.softmax(dim=0) if score == "softmax" else logits)[target]))
        weights = np.exp(scores) / np.exp(scores).sum()
        combined = np.maximum(0, np.tensordot(weights, channels.numpy(), 1))
        combined -= combined.min()
        np.testing.assert_allclose(found, combined / combined.max(), atol=1e-3)


def test_ablation_cam_by_a_loop_over_channels(family: Family) -> None:
    model, to_grid, inputs, targets = family
    expected = []
    for image, target in zip(inputs, targets.tolist(), strict=True):
        activations = activations_alone(model, image[None])
        score, losses = model(image[None])[0, target], []
        for number in range(activations.shape[1]):

            def without(layer: Any, given: Any, output: torch.Tensor, channel: int = number) -> torch.Tensor:
                changed = output.clone()
                to_grid(changed)[:, channel] = 0
                return changed

            handle = model.cam_layer.register_forward_hook(without)
            losses.append((score - model(image[None])[0, target]) / score)
            handle.remove()
        expected.append(torch.einsum("c,chw->hw", torch.stack(losses), activations[0]).relu().numpy())
    expected = scale_cam_image(scale_cam_image(np.stack(expected), (SIDE, SIDE)))  # once more after enlarging
    np.testing.assert_allclose(ours(ablation_cam, model, inputs, targets), expected, atol=1e-3)
    assert np.ptp(expected, axis=(1, 2)).max() > 0.5


def test_what_follows_the_layer_alone_gives_the_same_logits(family: Family) -> None:
    model, _, inputs, _ = family
    after = tail(model, inputs[:1])
    torch.testing.assert_close(after.logits, model(inputs[:1]), atol=1e-5, rtol=1e-5)
    assert torch.equal(model.grid(after.activations), activations_alone(model, inputs[:1]))
    other = tail(model, inputs[1:2])
    together = after.evaluate(torch.cat([after.activations, other.activations, after.activations]))
    assert together.shape == (3, 5)
    torch.testing.assert_close(together[0], after.logits[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[2], after.logits[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(inputs), torch.cat([model(one[None]) for one in inputs]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "name", [name for name in METHODS if METHODS[name].control or METHODS[name].at_layer] + ["extremal_perturbation"]
)
def test_neighbours_do_not_touch_the_last_bit(name: str, family: Family) -> None:
    model, _, inputs, targets = family
    settings = SMALL[name].model_copy(update={"iterations": 3} if hasattr(SMALL[name], "iterations") else {})
    maps = METHODS[name].explain(model, inputs, targets, settings, [1, 2, 3])
    others = torch.stack([inputs[1], inputs[0], inputs[1].flip(1)])
    moved = METHODS[name].explain(model, others, torch.tensor([0, 4, 1]), settings, [2, 1, 5])
    assert torch.equal(moved[:2], maps[:2].flip(0))
