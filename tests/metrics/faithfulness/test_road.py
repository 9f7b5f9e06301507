"""ROAD against grad-cam's where the two definitions agree, and where they must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from scipy.ndimage import gaussian_filter

from pipeline.metrics.faithfulness.road import RoadSettings
from pipeline.models.classifier import Classifier
from tests.conftest import SIDE
from tests.metrics.faithfulness.world import measured, one

PERCENTS = (10, 25, 50, 75)
NAMES = ("road_morf", "road_lerf", "road_combined")


def found_by_us(
    model: Classifier, pixels: np.ndarray, targets: Any, maps: np.ndarray, noise: float = 0.0, seed: int = 0
) -> Any:
    own: dict[str, Any] = dict.fromkeys(NAMES, RoadSettings(percents=PERCENTS, noise=noise))
    return measured([], model, pixels, targets, maps, settings=own, seed=seed)


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    return gaussian_filter(np.random.default_rng(4).random((5, SIDE, SIDE)), (0, 2, 2))


@pytest.mark.parametrize("percent", PERCENTS)
def test_equals_grad_cams_without_noise(
    percent: int, convnet: Classifier, pixels: np.ndarray, images: torch.Tensor, targets: torch.Tensor, maps: np.ndarray
) -> None:
    wanted = [ClassifierOutputSoftmaxTarget(int(target)) for target in targets]
    found = found_by_us(convnet, pixels, targets.numpy(), maps)
    expected = {}
    for name, remove in (("road_morf", RemoveMostRelevantFirst), ("road_lerf", RemoveLeastRelevantFirst)):
        metric = PerturbationConfidenceMetric(remove(100 - percent, NoisyLinearImputer(noise=0)))
        expected[name] = metric(images.contiguous(), maps.astype(np.float32), wanted, convnet)
        np.testing.assert_allclose(one(found, name, percent), expected[name], atol=2e-4)
        assert np.abs(expected[name]).max() > 4e-3
    combined = (expected["road_lerf"] - expected["road_morf"]) / 2
    np.testing.assert_allclose(one(found, "road_combined", percent), combined, atol=2e-4)


def test_the_last_reading_is_the_mean(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor, maps: np.ndarray
) -> None:
    found = found_by_us(convnet, pixels, targets.numpy(), maps, noise=0.01)
    for name in NAMES:
        each = np.stack([one(found, name, percent) for percent in PERCENTS])
        np.testing.assert_allclose(one(found, name), each.mean(axis=0), atol=1e-12)
    half = (one(found, "road_lerf") - one(found, "road_morf")) / 2
    np.testing.assert_allclose(one(found, "road_combined"), half, atol=1e-12)


def test_exactly_the_share_is_removed_however_many_pixels_are_tied(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three quarters are 0: comparing with a percentile would remove everything."""
    from pipeline.metrics.faithfulness import road

    counts: set[int] = set()
    original = road.impute

    def counted(pictures: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
        counts.update(removed.flatten(1).sum(dim=1).tolist())
        return original(pictures, removed)

    monkeypatch.setattr(road, "impute", counted)
    maps = np.zeros((5, SIDE, SIDE))
    maps[:, :12, :12] = np.random.default_rng(0).random((5, 12, 12))
    found = found_by_us(convnet, pixels, targets.numpy(), maps)
    assert counts == {58, 144, 288, 432}
    assert found["value"].notna().all()


def test_noise_is_small_and_the_same_for_both_orders(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor, maps: np.ndarray
) -> None:
    clean, first, second = (
        found_by_us(convnet, pixels, targets.numpy(), maps, noise, seed)["value"].to_numpy(float)
        for noise, seed in ((0.0, 0), (0.01, 0), (0.01, 1))
    )
    assert 0 < np.abs(first - clean).max() < 0.02
    assert (first != second).any()


@pytest.mark.parametrize("percents", [[], [0], [100], [10.5]])
def test_impossible_percents_are_refused(percents: list[Any]) -> None:
    with pytest.raises(ValueError, match="percents"):
        RoadSettings.model_validate({"percents": percents, "noise": 0.01})
