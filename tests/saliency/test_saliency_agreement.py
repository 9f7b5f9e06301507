"""Every method against the library that the paper used, given the same model and the same randomness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import saliency.core as library
import torch
from lime.lime_image import LimeImageExplainer
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from saliency.core.guided_ig import guided_ig_impl

from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_and_gradients
from pipeline.saliency.gradients import to_grayscale
from pipeline.saliency.map_file import enlarge
from pipeline.saliency.methods import (
    blur_ig,
    grad_cam,
    grad_cam_plus_plus,
    guided_ig,
    integrated_gradients,
    lime,
    smooth_grad,
)
from tests.models.networks import FAMILIES, of_family

COMMON = {"images": "all", "score": "softmax", "percentile": 99}
IG = integrated_gradients.Settings(steps=11, baseline=0.0, **COMMON)
BLUR = blur_ig.Settings(steps=9, max_sigma=12.0, grad_step=0.01, **COMMON)
SMOOTH = smooth_grad.Settings(samples=6, noise=0.15, squared=True, **COMMON)
GUIDED = guided_ig.Settings(steps=15, baseline=0.0, fraction=0.25, max_dist=0.02, **COMMON)
LIME = lime.Settings(
    images="all",
    samples=60,
    features=7,
    positive_only=False,
    hide_color=0,
    kernel_width=0.25,
    quickshift=lime.QuickshiftSettings(kernel_size=2, max_dist=12, ratio=0.5),
)


def call_model(model: Classifier, target: int, double: bool = False) -> Callable[..., dict[str, Any]]:
    """Return what the saliency library calls: images (B, H, W, 3) in, gradients of the softmax score out."""

    def call(batch: np.ndarray, call_model_args: Any = None, expected_keys: Sequence[str] = ()) -> dict[str, Any]:
        inputs = torch.tensor(np.moveaxis(batch, -1, 1), dtype=torch.float32, requires_grad=True)
        score = model(inputs).softmax(dim=1)[:, target].sum()
        (gradient,) = torch.autograd.grad(score, inputs)
        return {library.INPUT_OUTPUT_GRADIENTS: np.moveaxis(gradient.numpy(), 1, -1).astype(np.float64)}

    return call


def channels_last(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).double().numpy()


def assert_raw_maps_agree(ours: torch.Tensor, theirs: np.ndarray, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(channels_last(ours), theirs, atol=tolerance * max(1.0, np.abs(theirs).max()), rtol=0)
    assert np.abs(theirs).max() > 1e-6, "a comparison of zeros shows nothing"


def test_integrated_gradients(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    raw = integrated_gradients.attribute(convnet, images, targets, IG)
    for image, target, ours in zip(images, targets.tolist(), raw, strict=True):
        theirs = library.IntegratedGradients().GetMask(
            channels_last(image), call_model(convnet, target), x_steps=IG.steps, batch_size=20
        )
        assert_raw_maps_agree(ours, theirs, 1e-6)


def test_blur_ig(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    raw = blur_ig.attribute(convnet, images, targets, BLUR)
    for image, target, ours in zip(images, targets.tolist(), raw, strict=True):
        theirs = library.BlurIG().GetMask(
            channels_last(image),
            call_model(convnet, target),
            max_sigma=BLUR.max_sigma,
            steps=BLUR.steps,
            grad_step=BLUR.grad_step,
            batch_size=1,
        )
        assert_raw_maps_agree(ours, theirs, 1e-6)


@pytest.mark.parametrize("squared", [True, False])
def test_smooth_grad(
    convnet: Classifier, images: torch.Tensor, targets: torch.Tensor, squared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMOOTH.model_copy(update={"squared": squared})
    noise = torch.stack([smooth_grad.draw_noise(images.shape[1:], settings.samples, seed) for seed in range(5)])
    raw = smooth_grad.attribute(convnet, images, targets, settings, noise=noise)
    for row, (image, target, ours) in enumerate(zip(images, targets.tolist(), raw, strict=True)):
        samples = iter(noise[row].permute(0, 2, 3, 1).numpy())
        monkeypatch.setattr(np.random, "normal", lambda mean, std, shape, samples=samples: next(samples) * std)
        theirs = library.GradientSaliency().GetSmoothedMask(
            channels_last(image),
            call_model(convnet, target),
            stdev_spread=settings.noise,
            nsamples=settings.samples,
            magnitude=squared,
        )
        assert_raw_maps_agree(ours, theirs)


def fixed_gradient(points: np.ndarray) -> np.ndarray:
    """A gradient without a model: smooth, elementwise and exact to the last bit on both sides."""
    return np.sin(7 * points) + 0.3 * points * points


@pytest.mark.parametrize(
    ("steps", "fraction", "max_dist"),
    [(200, 0.25, 0.02), (12, 0.25, 0.02), (20, 0.5, 0.3), (10, 0.1, 1.0), (15, 1.0, 0.0)],
)
def test_guided_ig_with_a_fixed_gradient(steps: int, fraction: float, max_dist: float) -> None:
    rng = np.random.default_rng(0)
    ends = rng.normal(size=(4, 9, 8, 3))
    # Ties: equal features. Coarsely rounded ones would also tie at different places of their way, up to the last bit,
    # and that bit would decide.
    ends[1] = rng.choice(rng.normal(size=12), ends[1].shape)
    ends[2, 0] = 0  # features that do not move
    ends[3] = 0  # nothing moves
    paths = guided_ig.guided_path(
        torch.from_numpy(ends),
        lambda points: torch.from_numpy(fixed_gradient(points.numpy())),
        steps,
        0.0,
        fraction=fraction,
        max_dist=max_dist,
    )
    for end, ours in zip(ends, paths.numpy(), strict=True):
        theirs = guided_ig_impl(end, np.zeros_like(end), fixed_gradient, steps, fraction, max_dist)
        np.testing.assert_allclose(ours, theirs, atol=1e-10, rtol=0)
    assert np.abs(paths.numpy()[0]).max() > 0.01
    assert (paths.numpy()[3] == 0).all()


def test_guided_ig_on_a_network(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    # The path is chaotic in the last bit of the gradients, so every row goes alone, as in the library.
    for image, target in zip(images[:3], targets.tolist(), strict=False):
        ours = guided_ig.attribute(convnet, image[None], torch.tensor([target]), GUIDED)[0]
        theirs = library.GuidedIG().GetMask(
            channels_last(image),
            call_model(convnet, target),
            x_steps=GUIDED.steps,
            fraction=GUIDED.fraction,
            max_dist=GUIDED.max_dist,
        )
        assert_raw_maps_agree(ours, theirs)


def test_grey_map_equals_the_librarys(images: torch.Tensor) -> None:
    raw = images.double() ** 3
    for percentile in (99, 90.5, 100):
        ours = to_grayscale(raw, percentile).numpy()
        for one, image in zip(ours, raw, strict=True):
            theirs = library.VisualizeImageGrayscale(image.permute(1, 2, 0).numpy(), percentile)
            np.testing.assert_allclose(one, theirs, atol=1e-6)


def test_grey_map_of_nothing_is_zero() -> None:
    assert (to_grayscale(torch.zeros(2, 3, 5, 5), 99) == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("ours", "theirs"), [(grad_cam, GradCAM), (grad_cam_plus_plus, GradCAMPlusPlus)])
def test_class_activation_maps(family: str, ours: Any, theirs: Any) -> None:
    model, to_grid = of_family(family)
    inputs = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 3, 56, 56))).float()
    targets = torch.tensor([4, 0, 2])
    with theirs(model=model.network, target_layers=[model.cam_layer], reshape_transform=to_grid) as explainer:
        expected = explainer(inputs, [ClassifierOutputTarget(target) for target in targets.tolist()])
    stored = ours.explain(model.requires_grad_(False), inputs, targets, ours.Settings(images="all"), [0, 0, 0]).numpy()
    assert stored.shape == (3, 7, 7)
    maps = np.stack([enlarge(one, 56, "unit") for one in stored])
    assert np.ptp(expected, axis=(1, 2)).max() > 0.5
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert activations_and_gradients(model, inputs, targets)[0].shape[-2:] == (7, 7)


@pytest.mark.parametrize("positive_only", [False, True])
def test_lime(convnet: Classifier, images: torch.Tensor, pixels: np.ndarray, positive_only: bool) -> None:
    def classify(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return convnet(convnet.normalize(np.asarray(batch))).softmax(dim=1).double().numpy()

    settings = LIME.model_copy(update={"positive_only": positive_only})
    predicted = classify(pixels).argmax(axis=1)
    maps = lime.explain(convnet, images, torch.from_numpy(predicted), settings, [11, 12, 13, 14, 15]).numpy()
    for seed, image, target, ours in zip([11, 12, 13, 14, 15], pixels, predicted, maps, strict=True):
        state = np.random.RandomState(seed)
        explainer = LimeImageExplainer(kernel_width=settings.kernel_width, random_state=state)
        used: list[np.ndarray] = []

        def segment(picture: np.ndarray, used: list[np.ndarray] = used) -> np.ndarray:
            used.append(lime.superpixels(picture, settings.quickshift))
            return used[-1]

        explanation = explainer.explain_instance(
            image,
            classify,
            hide_color=settings.hide_color,
            top_labels=4,
            num_features=settings.features,
            num_samples=settings.samples,
            segmentation_fn=segment,
            random_seed=lime.TIES,
        )
        _, expected = explanation.get_image_and_mask(
            target, positive_only=positive_only, negative_only=False, num_features=settings.features, hide_rest=False
        )
        assert used[0].max() >= settings.features, "all superpixels fit: the choice of features is not tested"
        np.testing.assert_array_equal(ours, expected)
