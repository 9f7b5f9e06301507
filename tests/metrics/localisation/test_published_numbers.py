"""Fake-CAM on all of ImageNet's validation boxes: it needs no model, so source 004's numbers can be recomputed.

The boxes are not in the repository: ``COSE_FACTS`` names their folder, and without them these tests are skipped.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.data.framing import Boxes, Objects, Reading, carry_boxes, together
from pipeline.metrics.localisation.batch import Batch, LocalisationSettings
from pipeline.metrics.localisation.boxes import Floats, areas, iou, sums_inside
from pipeline.metrics.localisation.metric import METRICS

SIDE = 224
FACTS = Path(os.environ.get("COSE_FACTS", Path(__file__).parents[4] / "shared" / "facts")) / "imagenet_val_boxes.csv.gz"
FAKE_CAM = np.ones((1, SIDE, SIDE))
FAKE_CAM[0, 0, 0] = 0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FACTS.exists(), reason=f"{FACTS} is not here; COSE_FACTS names its folder"),
]


class OneMap(Batch):
    """Fake-CAM against all boxes at once: the best of an image's boxes is left to the test."""

    def best_box(self, values: Floats) -> Floats:
        return np.broadcast_to(values, (1, self.objects.boxes.shape[1])).ravel()


class AllBoxes:
    """Every box of every image, carried into the frame."""

    def __init__(self, table: pd.DataFrame, reading: Reading) -> None:
        numbers = table[["image", "width", "height", "left", "top", "right", "bottom"]].to_numpy()
        self.of_image = np.split(numbers, np.flatnonzero(np.diff(numbers[:, 0])) + 1)
        sizes = [(int(one[0, 1]), int(one[0, 2])) for one in self.of_image]
        self.carried: list[Boxes] = [
            carry_boxes(one[:, 3:], size, SIDE, 1.0, reading=reading)
            for one, size in zip(self.of_image, sizes, strict=True)
        ]
        self.settings = LocalisationSettings(reading=reading, tolerance=15.0)
        self.starts = np.cumsum([0, *(len(one) for one in self.carried[:-1])])

    @cached_property
    def batch(self) -> OneMap:
        boxes = np.concatenate(self.carried)[None]
        one = np.ones(1, bool)
        objects = Objects(boxes, np.ones(boxes.shape[:2], bool), one, np.zeros((1, SIDE, SIDE), bool), ~one)
        return OneMap(FAKE_CAM, objects, self.settings, np.ones(1, bool))

    def percent(self, of_box: np.ndarray) -> float:
        """Return the mean over images, in percent, of the best of an image's boxes."""
        return 100 * float(np.maximum.reduceat(of_box, self.starts).mean())

    def energy(self, settings: LocalisationSettings | None = None) -> float:
        """Return the mean energy pointing game, in percent; the union of a single box is taken as its sum."""
        reading = settings or self.settings
        several = [boxes for boxes in self.carried if len(boxes) > 1]
        total = 0.0
        for start in range(0, len(several), 200):
            some = several[start : start + 200]
            maps = np.broadcast_to(FAKE_CAM, (len(some), SIDE, SIDE))
            batch = Batch(maps, together(some, [None] * len(some), SIDE), reading, np.ones(len(some), bool))
            total += METRICS["energy_pointing_game"].compute(batch).sum()
        single = np.array([boxes[0] for boxes in self.carried if len(boxes) == 1])
        if reading.reading == "published":  # what a slice with negative numbers takes
            single = np.clip(np.where(single < 0, single + SIDE, single), 0, SIDE)[:, [1, 0, 3, 2]]
        total += sums_inside(FAKE_CAM, single[None]).sum() / FAKE_CAM.sum()
        return 100 * total / len(self.carried)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(FACTS)


@pytest.fixture(scope="module")
def published(table: pd.DataFrame) -> AllBoxes:
    return AllBoxes(table, "published")


@pytest.fixture(scope="module")
def corrected(table: pd.DataFrame) -> AllBoxes:
    boxes = AllBoxes(table, "corrected")
    empty = np.zeros((1, 4), np.int64)
    boxes.carried = [one if len(one) else empty for one in boxes.carried]  # nothing is in the frame
    boxes.starts = np.cumsum([0, *(len(one) for one in boxes.carried[:-1])])
    return boxes


def test_all_boxes_are_here(published: AllBoxes) -> None:
    assert (len(published.carried), published.batch.objects.boxes.shape[1]) == (50_000, 80_477)


def test_the_map_box_has_223_pixels(published: AllBoxes, corrected: AllBoxes) -> None:
    assert published.batch.map_boxes.tolist() == [[0, 0, 223, 223]]
    assert corrected.batch.map_boxes.tolist() == [[0, 0, 224, 224]]


@pytest.mark.parametrize(("reading", "expected"), [("published", 54.01), ("corrected", 50.94)])
def test_localisation_error(reading: str, expected: float, request: pytest.FixtureRequest) -> None:
    boxes: AllBoxes = request.getfixturevalue(reading)
    hits = 1 - METRICS["localization_error"].compute(boxes.batch)
    assert 100 - boxes.percent(hits) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("reading", "expected"), [("published", 57.68), ("corrected", 61.0)])
def test_pixel_f1(reading: str, expected: float, request: pytest.FixtureRequest) -> None:
    boxes: AllBoxes = request.getfixturevalue(reading)
    assert boxes.percent(METRICS["pixel_f1"].compute(boxes.batch)) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("reading", "expected"), [("published", 99.84), ("corrected", 99.84)])
def test_standard_pointing_game(reading: str, expected: float, request: pytest.FixtureRequest) -> None:
    boxes: AllBoxes = request.getfixturevalue(reading)
    last = np.array([0, 0, 1, 1]) if reading == "published" else 0
    hits = sums_inside(FAKE_CAM, boxes.batch.objects.boxes + last).ravel() > 0
    assert boxes.percent(hits) == pytest.approx(expected, abs=0.005)
    some = [one for one in boxes.carried if len(one) < 3][:400]
    batch = Batch(
        np.broadcast_to(FAKE_CAM, (len(some), SIDE, SIDE)),
        together(some, [None] * len(some), SIDE),
        boxes.settings,
        np.ones(len(some), bool),
    )
    expected_hits = [(sums_inside(FAKE_CAM, one[None] + last) > 0).any() for one in some]
    assert METRICS["standard_pointing_game"].compute(batch).astype(bool).tolist() == expected_hits


@pytest.mark.parametrize(("reading", "expected"), [("published", 47.96), ("corrected", 49.15)])
def test_box_accuracy(reading: str, expected: float, request: pytest.FixtureRequest) -> None:
    boxes: AllBoxes = request.getfixturevalue(reading)
    carried = boxes.batch.objects.boxes[0]
    if reading == "published":
        carried = np.maximum(carried, 0) + np.array([0, 0, 1, 1])
    overlaps = iou(np.array([0, 0, SIDE, SIDE]), carried)
    assert boxes.percent(overlaps >= 0.5) == pytest.approx(expected, abs=0.005)
    some = [one for one in boxes.carried if areas(one).all()][:40]
    batch = Batch(
        np.broadcast_to(FAKE_CAM, (len(some), SIDE, SIDE)),
        together(some, [None] * len(some), SIDE),
        boxes.settings,
        np.ones(len(some), bool),
    )
    largest = np.maximum.reduceat(overlaps, boxes.starts)
    first = np.array([largest[number] for number, one in enumerate(boxes.carried) if areas(one).all()][:40])
    np.testing.assert_allclose(METRICS["box_accuracy"].compute(batch), np.repeat(first[:, None], 100, 1))


@pytest.mark.parametrize(("reading", "expected"), [("published", 28.51), ("corrected", 53.52)])
def test_energy_pointing_game(reading: str, expected: float, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(reading).energy() == pytest.approx(expected, abs=0.005)


def test_the_published_boxes_rightly_drawn_give_twice_as_much(published: AllBoxes) -> None:
    """So the difference is how they are drawn, and not where they are."""
    rightly = LocalisationSettings(reading="corrected", tolerance=15.0)
    assert published.energy(rightly) == pytest.approx(53.56, abs=0.01)


def test_corrected_boxes_are_those_of_exact_arithmetic(table: pd.DataFrame, corrected: AllBoxes) -> None:
    """Without rounding to pixels, the share of the frame that an image's largest box covers is nearly the same."""
    sides = table[["width", "height"]].to_numpy(float)
    factor = SIDE / sides.min(axis=1, keepdims=True)
    edges = table[["left", "top", "right", "bottom"]].to_numpy() * factor - np.tile((sides * factor - SIDE) / 2, 2)
    extent = np.clip(edges[:, 2:], 0, SIDE) - np.clip(edges[:, :2], 0, SIDE)
    share = pd.Series(extent.prod(axis=1) / SIDE**2).groupby(table["image"]).max().to_numpy()
    ours = np.array([areas(one).max() for one in corrected.carried]) / SIDE**2
    assert np.abs(ours - share).max() < 0.02
    assert np.abs(ours - share).mean() < 0.003


def test_a_union_drawn_as_published_is_a_slice_with_its_numbers(published: AllBoxes) -> None:
    some = published.carried[:300]
    batch = Batch(
        np.broadcast_to(FAKE_CAM, (300, SIDE, SIDE)),
        together(some, [None] * 300, SIDE),
        published.settings,
        np.ones(300, bool),
    )
    for boxes, covered in zip(some, batch.covered, strict=True):
        drawn = np.zeros((SIDE, SIDE), bool)
        for left, top, right, bottom in boxes.tolist():
            drawn[left:right, top:bottom] = True
        np.testing.assert_array_equal(covered, drawn)


def test_nearly_half_of_the_images_have_a_box_that_wraps(published: AllBoxes) -> None:
    negative = (published.batch.objects.boxes[0] < 0).any(axis=1)
    assert published.percent(negative) == pytest.approx(46.8, abs=0.05)
