"""Maps of the CAM family and of the controls whose values are known without a library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray
from skimage.filters import sobel as skimage_sobel
from torch import nn

from pipeline.models.classifier import Classifier
from pipeline.models.tail import tail
from pipeline.saliency.cams import activations_alone, activations_and_gradients, principal_map, scaled_map
from pipeline.saliency.map_file import enlarge
from pipeline.saliency.masks import apply_masks
from pipeline.saliency.method import METHODS
from pipeline.saliency.methods import ablation_cam, score_cam, sobel
from tests.conftest import SIDE, wrapped
from tests.settings import SMALL

CONTROLS = [name for name in METHODS if METHODS[name].control]


class Pooled(nn.Module):
    """A layer, global pooling and one linear layer without a bias: all class activation maps have a closed form."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(6)
            self.layer = nn.Sequential(nn.Conv2d(3, 10, 3, stride=3), nn.ReLU())
            self.fc = nn.Linear(10, 4, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer(images).mean(dim=(2, 3)))


@pytest.fixture
def pooled() -> Classifier:
    return wrapped(Pooled(), "layer").requires_grad_(False)


def explain(name: str, model: Classifier, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return METHODS[name].explain(model, images, targets, SMALL[name], list(range(len(images))))


def test_behind_global_pooling(pooled: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    activations = activations_alone(pooled, images)
    weights = pooled.network.fc.weight[targets]
    cam = scaled_map(torch.einsum("nc,nchw->nhw", weights, activations))
    torch.testing.assert_close(explain("grad_cam", pooled, images, targets), cam, atol=1e-4, rtol=0)
    torch.testing.assert_close(explain("x_grad_cam", pooled, images, targets), cam, atol=1e-4, rtol=0)
    positive = scaled_map(torch.einsum("nc,nchw->nhw", weights.relu(), activations))
    torch.testing.assert_close(explain("layer_cam", pooled, images, targets), positive, atol=1e-4, rtol=0)
    # What a class loses without a channel is the channel's mean times its weight.
    losses = weights * activations.mean(dim=(2, 3)) / pooled(images).gather(1, targets[:, None])
    ablated = scaled_map(torch.einsum("nc,nchw->nhw", losses, activations))
    torch.testing.assert_close(explain("ablation_cam", pooled, images, targets), ablated, atol=1e-4, rtol=0)


def test_ablation_weights_of_a_logit_below_zero_have_its_sign(
    pooled: Classifier, images: torch.Tensor, targets: torch.Tensor
) -> None:
    logits = pooled(images)
    for image, own in zip(images.split(1), logits, strict=True):
        for target in (int(own.argmin()), int(own.argmax())):
            after = tail(pooled, image)
            found = ablation_cam.channel_weights(pooled, after, target, SIDE)
            means = after.activations.mean(dim=(2, 3))[0]
            torch.testing.assert_close(
                found, pooled.network.fc.weight[target] * means / own[target], rtol=1e-4, atol=1e-5
            )
    assert logits.min() < 0 < logits.max()


class Silent(nn.Module):
    """Its layer does not reach the classes, and gives the same everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        nothing = self.layer(torch.ones_like(images))
        return images.mean(dim=(2, 3)) + 0 * nothing.mean(dim=(2, 3))


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].at_layer])
def test_a_layer_that_says_nothing_gives_zeros_and_not_nan(name: str, images: torch.Tensor) -> None:
    model = wrapped(Silent(), "layer").requires_grad_(False)
    maps = explain(name, model, images, torch.zeros(len(images), dtype=torch.int64))
    assert torch.isfinite(maps).all()
    assert (maps == maps[:, :1, :1]).all()


def test_the_principal_map_of_one_pattern_is_that_pattern() -> None:
    pattern = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    strengths = torch.tensor([2.0, -1.0, 0.5, 0.0])
    found = principal_map((strengths[:, None, None] * pattern)[None])[0]
    centred = (pattern - pattern.mean()) * strengths.norm()
    expected = centred if centred.max() > -centred.min() else -centred
    torch.testing.assert_close(found.float(), expected, atol=1e-5, rtol=0)
    # Turning every channel round leaves the map as it is: its sign is not the network's.
    torch.testing.assert_close(principal_map(-(strengths[:, None, None] * pattern)[None])[0], found)


def test_score_cam_masks_run_from_0_to_1() -> None:
    channels = torch.stack([torch.arange(16.0).view(4, 4), -torch.arange(16.0).view(4, 4), torch.full((4, 4), 3.1)])
    masks = score_cam.channel_masks(channels, 12)
    assert masks.shape == (3, 12, 12)
    assert masks[:2].amin(dim=(1, 2)).tolist() == [0, 0]
    torch.testing.assert_close(masks[:2].amax(dim=(1, 2)), torch.ones(2))
    torch.testing.assert_close(masks[1], 1 - masks[0])
    assert (masks[2] == 0).all(), "a channel that shows no place shows nothing"


def test_masked_pictures(convnet: Classifier, images: torch.Tensor, pixels: np.ndarray) -> None:
    ones = torch.ones(5, SIDE, SIDE)
    for masked in ("picture", "normalised"):
        torch.testing.assert_close(apply_masks(convnet, images, ones, masked), images, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(convnet.pixels(apply_masks(convnet, images, 0 * ones, "picture")), 0 * pixels)
    assert (apply_masks(convnet, images, 0 * ones, "normalised") == 0).all()
    half = convnet.pixels(apply_masks(convnet, images, ones / 2, "picture"))
    assert np.abs(half - pixels / 2).max() <= 0.5
    one_for_all = apply_masks(convnet, images[:1], torch.rand(3, SIDE, SIDE), "picture")
    assert one_for_all.shape == (3, 3, SIDE, SIDE)
    assert one_for_all.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_know_nothing_of_the_model(
    name: str, convnet: Classifier, pooled: Classifier, images: torch.Tensor, targets: torch.Tensor
) -> None:
    maps = explain(name, convnet, images, targets)
    assert torch.equal(maps, explain(name, pooled, images, targets.flip(0)))
    cost = METHODS[name].cost(SMALL[name]).for_channels(1280)
    assert (cost.forward, cost.gradient) == (0, 0)


def test_fake_cam_is_one_but_at_the_first_pixel(
    convnet: Classifier, images: torch.Tensor, targets: torch.Tensor
) -> None:
    for one in explain("fake_cam", convnet, images, targets):
        assert one[0, 0] == 0
        assert one.sum() == SIDE**2 - 1


def test_uniform_is_one_and_stays_so(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    for one in explain("uniform", convnet, images, targets).numpy():
        assert (enlarge(one, SIDE, "unit") == 1).all()


def test_center_is_a_gaussian(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    (one, *others) = explain("center", convnet, images, targets)
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    expected = np.exp(-(rows**2 + columns**2) / 2 / (0.25 * SIDE) ** 2)
    np.testing.assert_allclose(one, expected, atol=1e-6)
    assert all(torch.equal(one, other) for other in others)


def test_sobel_is_that_of_scikit_image(convnet: Classifier, images: torch.Tensor, pixels: np.ndarray) -> None:
    found = sobel.edges(images * convnet.std + convnet.mean)
    expected = np.stack([skimage_sobel(rgb2gray(picture)) for picture in pixels])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    maps = explain("sobel", convnet, images, torch.zeros(5, dtype=torch.int64)).numpy()
    spans = np.ptp(expected, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(maps, (expected - expected.min(axis=(1, 2), keepdims=True)) / spans, atol=1e-5)


@pytest.mark.parametrize(("name", "side"), [("random_map", SIDE), ("random_map_14x14", 14), ("random_map_7x7", 7)])
def test_random_maps_come_from_the_rows_seed_alone(
    name: str, side: int, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor
) -> None:
    maps = METHODS[name].explain(convnet, images, targets, SMALL[name], [1, 2, 3, 4, 1])
    assert maps.shape == (5, side, side)
    assert torch.equal(maps[0], maps[4])
    different = maps[:4].flatten(1)
    assert torch.corrcoef(different).fill_diagonal_(0).abs().max() < 0.4
    assert (different.mean(dim=1) - 0.5).abs().max() < 0.15


def test_maps_are_no_finer_than_their_images(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    for name in ("random_map_14x14", "random_map_7x7"):
        assert explain(name, convnet, images[..., :6, :6], targets).shape == (5, 6, 6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_activations_alone_are_those_with_gradients(count: int, convnet: Classifier, images: torch.Tensor) -> None:
    alone = activations_alone(convnet, images[:count])
    together, _ = activations_and_gradients(convnet, images[:count], torch.zeros(count, dtype=torch.int64))
    assert torch.equal(alone, together)
