"""Scores of masked pictures against grad-cam, the published formulas, and maps whose values are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.cam_mult_image import (
    CamMultImageConfidenceChange,
    DropInConfidence,
    IncreaseInConfidence,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

from pipeline.metrics.faithfulness.masking import CutSettings, MaskSettings
from pipeline.models.classifier import Classifier
from tests.conftest import SIDE
from tests.metrics.faithfulness.world import measured, one

AVERAGES = ("average_drop", "average_gain", "average_increase")


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    return np.random.default_rng(4).random((5, SIDE, SIDE)) ** 2


@pytest.fixture(scope="module")
def targets(convnet: Classifier, images: torch.Tensor) -> np.ndarray:
    return convnet(images).argmax(dim=1).numpy()


@pytest.mark.parametrize("ending", ["", "_inverse", "_cut"])
def test_confidence_equals_grad_cams(
    ending: str, convnet: Classifier, pixels: np.ndarray, images: torch.Tensor, targets: np.ndarray, maps: np.ndarray
) -> None:
    masks = {"": maps, "_inverse": 1 - maps, "_cut": np.stack([one < np.percentile(one, 75) for one in maps])}[ending]
    wanted = [ClassifierOutputSoftmaxTarget(target) for target in targets]
    for name, metric in (
        ("change", CamMultImageConfidenceChange()),
        ("drop", DropInConfidence()),
        ("increase", IncreaseInConfidence()),
    ):
        expected = metric(images, masks.astype(np.float32), wanted, convnet)
        own: Any = (
            CutSettings(masked="normalised", percentile=75.0) if ending == "_cut" else MaskSettings(masked="normalised")
        )
        name = f"confidence_{name}{ending}"
        found = one(
            measured(name, convnet, pixels, targets, maps, settings={name: own}),
            name,
            25.0 if ending == "_cut" else None,
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert np.ptp(found) > 0 or name.startswith("confidence_increase")


def test_averages_equal_their_formulas(
    convnet: Classifier, pixels: np.ndarray, images: torch.Tensor, targets: np.ndarray, maps: np.ndarray
) -> None:
    found = measured(list(AVERAGES), convnet, pixels, targets, maps)
    black = (pixels / 255 * maps[..., None]).transpose(0, 3, 1, 2)
    masked = (torch.tensor(black, dtype=torch.float32) - convnet.mean) / convnet.std
    before, after = (convnet(one).double().softmax(1).numpy()[np.arange(5), targets] for one in (images, masked))
    np.testing.assert_allclose(one(found, "average_drop"), 100 * np.maximum(0, before - after) / before, atol=1e-3)
    np.testing.assert_allclose(
        one(found, "average_gain"), 100 * np.maximum(0, after - before) / (1 - before), atol=1e-3
    )
    np.testing.assert_array_equal(one(found, "average_increase"), 100 * (after > before))


def test_gain_excludes_drop_and_is_what_increase_counts(
    convnet: Classifier, pixels: np.ndarray, targets: np.ndarray
) -> None:
    rng = np.random.default_rng(0)
    many = np.concatenate([pixels] * 8)
    maps = rng.random((40, 1, 1)) * rng.random((40, SIDE, SIDE))
    found = measured(list(AVERAGES), convnet, many, np.tile(targets, 8), maps)
    drop, gain, increase = (one(found, name) for name in AVERAGES)
    assert (drop * gain == 0).all()
    np.testing.assert_array_equal(increase, 100 * (gain > 0))
    assert 0 < increase.mean() < 100, "both must occur"


def test_a_map_of_ones_changes_nothing(convnet: Classifier, pixels: np.ndarray, targets: np.ndarray) -> None:
    names = [*AVERAGES, "confidence_change", "confidence_drop", "confidence_increase"]
    found = measured(names, convnet, pixels, targets, np.ones((5, SIDE, SIDE)))
    assert (found["value"] == 0).all()


def test_a_fake_map_changes_next_to_nothing(convnet: Classifier, pixels: np.ndarray, targets: np.ndarray) -> None:
    fake = np.ones((5, SIDE, SIDE))
    fake[:, 0, 0] = 0
    found = measured(list(AVERAGES), convnet, pixels, targets, fake)
    drop, gain, increase = (one(found, name) for name in AVERAGES)
    assert 0 < drop.max() < 3
    assert gain.max() < 3
    assert 0 < increase.mean() < 100, "some rise and some fall, by chance: why average gain is needed"
    # Where the only pixel that is masked is black already, nothing changes at all.
    black = pixels.copy()
    black[:, 0, 0] = 0
    assert (measured(list(AVERAGES), convnet, black, targets, fake)["value"] == 0).all()


def test_what_is_below_0_masks_like_0(convnet: Classifier, pixels: np.ndarray, targets: np.ndarray) -> None:
    signed = np.random.default_rng(1).uniform(-1, 1, (5, SIDE, SIDE))
    names = [*AVERAGES, "confidence_change_inverse"]
    found = measured(names, convnet, pixels, targets, signed, values="signed")
    clipped = measured(names, convnet, pixels, targets, signed.clip(0, 1))
    np.testing.assert_array_equal(found["value"], clipped["value"])


def test_a_cut_that_leaves_nothing_has_no_value(convnet: Classifier, pixels: np.ndarray, targets: np.ndarray) -> None:
    maps = np.zeros((5, SIDE, SIDE))
    maps[:, :3, :4] = np.arange(1, 13).reshape(3, 4) / 12  # three quarters and more are 0
    maps[0] = np.random.default_rng(0).random((SIDE, SIDE))
    found = measured("confidence_change_cut", convnet, pixels, targets, maps)
    assert found["value"].isna().tolist() == [False, True, True, True, True]
    assert found["reason"].iloc[1].startswith("the percentile is the map's least value")


def test_a_certain_score_cannot_gain(convnet: Classifier, pixels: np.ndarray) -> None:
    from tests.metrics.faithfulness.world import linear

    model = linear(np.full((SIDE, SIDE), 10.0))
    found = measured(list(AVERAGES), model, pixels, np.ones(5), np.ones((5, SIDE, SIDE)))
    assert found[found["metric"] == "average_gain"]["value"].isna().all()
    assert (one(found, "average_drop") == 0).all()
    assert (one(found, "average_increase") == 0).all()
