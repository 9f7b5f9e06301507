"""Infidelity and maximum sensitivity against naive versions of their formulas, and cases with a known answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.randomness import stream_seed
from pipeline.metrics.faithfulness.batch import Batch, Method
from pipeline.metrics.faithfulness.metric import METRICS
from pipeline.models.classifier import Classifier
from pipeline.saliency.gradients import gradient
from tests.conftest import SIDE
from tests.metrics.faithfulness.world import linear, measured, one, small


def seeds_of(count: int, seed: int = 0) -> list[int]:
    return [stream_seed(seed, "faithfulness", 100 + row) for row in range(count)]


def test_infidelity_equals_its_formula(
    convnet: Classifier, pixels: np.ndarray, images: torch.Tensor, targets: torch.Tensor
) -> None:
    settings: Any = small("infidelity")
    maps = np.random.default_rng(0).uniform(-1, 1, (5, SIDE, SIDE))
    found = one(measured("infidelity", convnet, pixels, targets.numpy(), maps, values="signed"), "infidelity")
    batch = Batch(convnet, images, targets, maps, seeds_of(5))

    def score(image: torch.Tensor, target: int) -> float:
        return float(convnet(image[None]).double().softmax(1)[0, target])

    for row in range(5):
        drawn = settings.noise * batch.noise(row, "infidelity", settings.samples, 3, SIDE, SIDE)
        target = int(targets[row])
        dots = [float((one.double() * torch.tensor(maps[row])).sum()) for one in drawn]
        falls = [score(images[row], target) - score(images[row] - one, target) for one in drawn]
        scale = sum(d * f for d, f in zip(dots, falls, strict=True)) / sum(d * d for d in dots)
        expected = np.mean([(scale * d - f) ** 2 for d, f in zip(dots, falls, strict=True)])
        assert found[row] == pytest.approx(expected, rel=1e-3)


def test_infidelity_does_not_depend_on_the_maps_scale(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor
) -> None:
    maps = np.random.default_rng(0).random((5, SIDE, SIDE))
    whole, half = (
        one(measured("infidelity", convnet, pixels, targets.numpy(), maps * scale), "infidelity") for scale in (1, 0.25)
    )
    np.testing.assert_allclose(whole, half, rtol=1e-6)


def test_the_gradient_of_a_nearly_linear_model_is_nearly_faithful(pixels: np.ndarray) -> None:
    """Grey weights: a map of one value per pixel can say all there is, up to the sigmoid's bend."""
    weights = np.random.default_rng(0).standard_normal((SIDE, SIDE)) / 50
    # The picture's channels are scaled apart; the same weight on normalised channels makes the map exact.
    model = linear(weights)
    model.network[1].weight.data[1] = torch.tensor(np.tile(weights.ravel(), 3) / 3, dtype=torch.float32)
    images = model.normalize(pixels)
    target = torch.ones(5, dtype=torch.int64)
    exact = gradient(model, images, target, "softmax").mean(dim=1).double().numpy()
    good = one(
        measured("infidelity", model, pixels, np.ones(5), exact / np.abs(exact).max(), values="signed"), "infidelity"
    )
    bad = one(
        measured("infidelity", model, pixels, np.ones(5), exact[:, ::-1] / np.abs(exact).max(), values="signed"),
        "infidelity",
    )
    assert (good < 0.01 * bad).all()


def test_a_map_of_zeros_predicts_nothing(convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor) -> None:
    found = measured(["infidelity", "sensitivity_max"], convnet, pixels, targets.numpy(), np.zeros((5, SIDE, SIDE)))
    assert found["value"].isna().all()
    assert found["reason"].str.startswith("the map is 0 everywhere").all()


def grey(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Any) -> torch.Tensor:
    return images.mean(dim=1)


def test_sensitivity_equals_its_formula(
    convnet: Classifier, pixels: np.ndarray, images: torch.Tensor, targets: torch.Tensor
) -> None:
    settings: Any = small("sensitivity_max")
    maps = grey(convnet, images, targets, None).double().numpy()
    found = one(
        measured(
            "sensitivity_max",
            convnet,
            pixels,
            targets.numpy(),
            maps,
            values="signed",
            method=Method(grey, "signed", at_once=3),
        ),
        "sensitivity_max",
    )
    batch = Batch(convnet, images, targets, maps, seeds_of(5))
    for row in range(5):
        drawn = batch.rng(row, "sensitivity").uniform(-1, 1, (settings.samples, 3, SIDE, SIDE)) * settings.radius
        assert np.abs(drawn).max() <= settings.radius
        moves = [np.linalg.norm((images[row].numpy() + one).mean(axis=0) - maps[row]) for one in drawn]
        assert found[row] == pytest.approx(max(moves) / np.linalg.norm(maps[row]), rel=1e-4)


def test_a_method_is_asked_for_the_rows_own_class_and_seed(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor
) -> None:
    asked: set[tuple[int, int]] = set()

    def noted(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Any) -> torch.Tensor:
        asked.update(zip(targets.tolist(), seeds, strict=True))
        return images.mean(dim=1)[:, ::2, ::2].clamp(0, 1)  # smaller maps are enlarged

    maps = np.random.default_rng(0).random((5, SIDE, SIDE))
    found = measured("sensitivity_max", convnet, pixels, targets.numpy(), maps, method=Method(noted, "unit"), seed=7)
    assert found["value"].notna().all()
    assert asked == {(int(target), stream_seed(7, "explain", 100 + row)) for row, target in enumerate(targets)}


def test_only_sensitivity_explains_again() -> None:
    again = {name for name in METRICS if any(probe.explanations() for probe in METRICS[name].probes(small(name)))}
    assert again == {name for name in METRICS if "method" in METRICS[name].needs} == {"sensitivity_max"}
