"""Insertion, deletion and pixel flipping on models whose curve is known, and naive versions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from pipeline.metrics.faithfulness.metric import METRICS
from pipeline.metrics.faithfulness.removal import UNMOVED, Ends, Limits, area
from pipeline.models.classifier import Classifier
from tests.conftest import SIDE
from tests.metrics.faithfulness.world import OBJECT, batch_of, linear, measured, one, small

TOTAL = SIDE**2


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def trapezoid(curve: np.ndarray) -> float:
    return float(np.trapezoid(curve, np.linspace(0, 1, len(curve))))


def of(name: str, **keys: Any) -> Any:
    return METRICS[name].settings.model_validate(small(name).model_dump() | keys)


def value(name: str, model: Classifier, pictures: np.ndarray, maps: np.ndarray, **keys: Any) -> np.ndarray:
    count = len(pictures)
    return one(measured(name, model, pictures, np.ones(count), maps, settings={name: of(name, **keys)}), name)


@pytest.mark.parametrize(("steps", "pixels"), [(TOTAL, 1), (83, 7), (24, 24), (6, 96), (1, TOTAL)])
def test_deletion_of_visible_pixels_is_a_sigmoid(steps: int, pixels: int) -> None:
    """A model that counts white pixels does not care which ones are gone."""
    model = linear(np.full((SIDE, SIDE), 6 / TOTAL), bias=-2.0)
    white = np.full((2, SIDE, SIDE, 3), 255, np.uint8)
    maps = np.random.default_rng(0).random((2, SIDE, SIDE))
    gone = np.minimum(np.arange(0, TOTAL + pixels, pixels), TOTAL)
    curve = sigmoid(6 * (1 - gone / TOTAL) - 2)
    np.testing.assert_allclose(value("deletion", model, white, maps, steps=steps), trapezoid(curve), atol=1e-6)
    flipped = value("pixel_flipping", model, white, maps, steps=steps, share=1.0)
    np.testing.assert_allclose(flipped, np.mean(curve[0] - curve), atol=1e-6)


def test_order_is_that_of_the_map() -> None:
    """Object first: the score falls while the object goes, and stays when it is gone."""
    model = linear(OBJECT * 8 / OBJECT.sum(), bias=-4.0)
    white = np.full((1, SIDE, SIDE, 3), 255, np.uint8)
    inside = int(OBJECT.sum())
    jitter = np.random.default_rng(0).random((1, SIDE, SIDE)) * 0.1
    gone = np.arange(0, TOTAL + 1, 16)
    down = sigmoid(8 * (1 - np.minimum(gone, inside) / inside) - 4)
    late = sigmoid(8 * (1 - np.maximum(gone - (TOTAL - inside), 0) / inside) - 4)
    maps = OBJECT * 0.9 + jitter
    np.testing.assert_allclose(value("deletion", model, white, maps, steps=36), trapezoid(down), atol=1e-6)
    np.testing.assert_allclose(value("deletion", model, white, 1 - maps, steps=36), trapezoid(late), atol=1e-6)
    share = value("pixel_flipping", model, white, maps, steps=36, share=80 / TOTAL)
    np.testing.assert_allclose(share, np.mean(down[0] - down[:6]), atol=1e-6)


@pytest.mark.parametrize(("kernel", "sigma"), [(11, 5.0), (5, 5.0), (3, 0.7)])
def test_insertion_equals_a_naive_version(kernel: int, sigma: float) -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((SIDE, SIDE)) / 20
    model = linear(weights)
    grey = rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=-1)
    map_ = rng.random((SIDE, SIDE))
    line = np.exp(-((np.arange(kernel) - kernel // 2) ** 2) / (2 * sigma**2))
    blurred = correlate(grey / 255, np.outer(line, line) / line.sum() ** 2, mode="mirror")
    current, curve = blurred.copy().ravel(), []
    order = np.argsort(-map_.ravel())
    for start in range(0, TOTAL + 48, 48):
        current[order[: min(start, TOTAL)]] = (grey / 255).ravel()[order[: min(start, TOTAL)]]
        curve.append(sigmoid(float((current * weights.ravel()).sum())))
    found = value("insertion", model, picture[None], map_[None], kernel=kernel, sigma=sigma)
    np.testing.assert_allclose(found, trapezoid(np.array(curve)), atol=1e-5)


def test_deletion_to_the_mean_colour_of_a_picture_of_one_colour_changes_nothing() -> None:
    model = linear(np.random.default_rng(0).standard_normal((SIDE, SIDE)) / 10)
    grey = np.full((1, SIDE, SIDE, 3), 130, np.uint8)
    maps = np.random.default_rng(1).random((1, SIDE, SIDE))
    before = float(model(model.normalize(grey)).softmax(1)[0, 1])
    np.testing.assert_allclose(value("deletion", model, grey, maps, fill="mean"), before, atol=1e-6)
    assert abs(value("deletion", model, grey, maps, fill="black")[0] - before) > 1e-3


def test_ties_are_broken_at_random_and_reported() -> None:
    """A fake map ties all pixels but one: on average over seeds it scores like a random map."""
    model = linear(OBJECT * 8 / OBJECT.sum(), bias=-4.0)
    white = np.full((1, SIDE, SIDE, 3), 255, np.uint8)
    fake = np.ones((1, SIDE, SIDE))
    fake[0, 0, 0] = 0
    rng = np.random.default_rng(0)
    count = 40
    tied = np.concatenate(
        [one(measured("deletion", model, white, [1], fake, seed=seed), "deletion") for seed in range(count)]
    )
    drawn = value("deletion", model, np.repeat(white, count, 0), rng.random((count, SIDE, SIDE)))
    assert np.ptp(tied) > 0
    error = np.hypot(tied.std(), drawn.std()) / np.sqrt(count)
    assert abs(tied.mean() - drawn.mean()) < 4 * error
    assert error < 0.01
    assert one(measured("tied_pixels", model, white, [1], fake), "tied_pixels") == pytest.approx((TOTAL - 1) / TOTAL)
    half = np.arange(TOTAL).reshape(1, SIDE, SIDE) / TOTAL
    half[half < 0.5] = 0
    assert one(measured("tied_pixels", model, white, [1], half), "tied_pixels") == pytest.approx(0.5)


@pytest.mark.parametrize("way", ["deletion", "insertion"])
def test_limits_are_those_of_all_orders_where_patches_add_up(way: str) -> None:
    """Under an additive model the best order of patches is known; two by two, all 24 can be tried."""
    from itertools import permutations

    rng = np.random.default_rng(3)
    model = linear(np.kron(rng.standard_normal((2, 2)), np.ones((SIDE // 2, SIDE // 2))) / 60)
    pixels = rng.integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    images = model.normalize(pixels)
    ends = Ends(fill="black") if way == "deletion" else Ends(kernel=11, sigma=5.0)
    batch = batch_of(model, images, [1], None)
    start, end = ends.of(batch)
    areas = []
    for order in permutations(range(4)):
        picture, curve = start.clone(), [start]
        for patch in order:
            rows, columns = (
                slice(12 * (patch // 2), 12 * (patch // 2) + 12),
                slice(12 * (patch % 2), 12 * (patch % 2) + 12),
            )
            picture = picture.clone()
            picture[..., rows, columns] = end[..., rows, columns]
            curve.append(picture)
        areas.append(trapezoid(model(torch.cat(curve)).softmax(1)[:, 1].numpy()))
    for search in ("single", "greedy"):
        probe = Limits(ends, 2, search)  # type: ignore[arg-type]
        found = probe.ask(batch)[0].numpy()
        np.testing.assert_allclose(found, [min(areas), max(areas)], atol=1e-6)


def test_limits_count_what_they_ask(convnet: Classifier, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.metrics.faithfulness.batch import Batch

    counted: list[int] = []
    original = Batch.scores
    monkeypatch.setattr(
        Batch, "scores", lambda batch, steps, make: (counted.append(steps), original(batch, steps, make))[1]
    )
    single, greedy = (Limits(Ends(fill="black"), 3, search) for search in ("single", "greedy"))
    batch = batch_of(convnet, images, [0] * 5, None)
    least, greatest = single.ask(batch).T
    assert sum(counted) == single.forward(SIDE)
    counted.clear()
    lower, higher = greedy.ask(batch).T
    assert sum(counted) == greedy.forward(SIDE)
    assert (lower <= least).all()
    assert (higher >= greatest).all()
    assert (least < greatest).all()


def test_normalized_areas_lie_between_their_limits() -> None:
    model = linear((OBJECT - 0.07 * (1 - OBJECT)) / 8, bias=-2.0)
    pixels = np.repeat((90 + 90 * OBJECT).astype(np.uint8)[None, ..., None], 3, axis=-1)
    maps = OBJECT[None] * 0.9 + np.random.default_rng(0).random((1, SIDE, SIDE)) * 0.1
    for name in ("deletion_normalized", "insertion_normalized"):
        best, worst = (value(name, model, pixels, one)[0] for one in (maps, 1 - maps))
        assert best > 0.9
        assert worst < 0.1
        raw = value(name.removesuffix("_normalized"), model, pixels, maps)[0]
        batch = batch_of(model, model.normalize(pixels), [1], None)
        least, greatest = METRICS[name].limits(small(name)).ask(batch)[0].tolist()  # type: ignore[misc]
        low, high = (greatest, least) if name.startswith("deletion") else (least, greatest)
        assert best == pytest.approx((raw - low) / (high - low), abs=1e-6)


def test_a_picture_whose_score_no_patch_moves_has_no_normalized_value() -> None:
    model = linear(np.zeros((SIDE, SIDE)))
    pixels = np.full((1, SIDE, SIDE, 3), 99, np.uint8)
    maps = np.random.default_rng(0).random((1, SIDE, SIDE))
    found = measured(["deletion_normalized", "insertion_normalized"], model, pixels, [1], maps)
    assert (found["reason"] == UNMOVED).all()


def test_area_takes_half_of_both_ends() -> None:
    assert area(torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("kernel", [4, 1])
def test_an_even_blur_is_refused(kernel: int) -> None:
    with pytest.raises(ValueError, match=r"odd|greater"):
        of("insertion", kernel=kernel)
