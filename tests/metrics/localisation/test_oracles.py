"""Localisation metrics against scikit-image, scikit-learn, SciPy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure as ski
from sklearn.metrics import average_precision_score

from pipeline.metrics.localisation.boxes import areas, iou, largest_component_boxes, sums_inside, union, wrapped_union
from pipeline.metrics.localisation.metric import METRICS, best_accuracy, weighted_mean
from pipeline.metrics.localisation.metrics import box_accuracy_v2
from pipeline.metrics.localisation.ordering import average_precision, hits_among_highest
from pipeline.metrics.localisation.threshold_scan import THRESHOLDS
from tests.metrics.localisation.world import OBJECTS, PUBLISHED, SIDE, batch_of, boxed, objects_of, values

RNG = np.random.default_rng(3)


def blobs(count: int) -> np.ndarray:
    """Return smooth maps with a few hills, in [0, 1]."""
    noise = ndimage.gaussian_filter(RNG.random((count, SIDE, SIDE)), (0, 2, 2))
    low, high = noise.min(axis=(1, 2), keepdims=True), noise.max(axis=(1, 2), keepdims=True)
    return (noise - low) / (high - low)


def random_boxes(count: int, low: int = 0, high: int = SIDE) -> np.ndarray:
    corners = np.sort(RNG.integers(low, high + 1, (count, 2, 2)), axis=1)
    corners[:, 1] += corners[:, 0] == corners[:, 1]
    return corners.reshape(count, 4)


def painted(box: np.ndarray, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    left, top, right, bottom = np.clip(box, 0, SIDE).tolist()
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def region_boxes(inside: np.ndarray, connectivity: int) -> list[tuple[int, np.ndarray]]:
    """Return the area and the box of every component, by scikit-image."""
    regions = ski.regionprops(ski.label(inside, connectivity=connectivity))
    return [(int(one.area), np.array([one.bbox[1], one.bbox[0], one.bbox[3], one.bbox[2]])) for one in regions]


def test_overlap_is_that_of_the_pixels() -> None:
    one, other = random_boxes(200), random_boxes(200)
    for first, second, found in zip(one, other, iou(one, other), strict=True):
        a, b = painted(first), painted(second)
        assert found == pytest.approx((a & b).sum() / (a | b).sum())
    assert iou(np.array([0, 0, 2, 2]), np.array([2, 0, 4, 2])) == 0
    assert iou(np.zeros(4, int), np.zeros(4, int)) == 0
    np.testing.assert_array_equal(areas(one), [painted(box).sum() for box in one])


def test_unions_and_sums_are_those_of_the_pixels() -> None:
    boxes = random_boxes(60, -8, SIDE + 8).reshape(20, 3, 4)
    present = RNG.random((20, 3)) < 0.7
    maps = RNG.random((20, SIDE, SIDE))
    found = union(boxes, present, (SIDE, SIDE))
    for covered, some, here in zip(found, boxes, present, strict=True):
        expected = np.zeros((SIDE, SIDE), bool)
        for box in some[here]:
            expected |= painted(box)
        np.testing.assert_array_equal(covered, expected)
    sums = [[one[painted(box)].sum() for box in some] for one, some in zip(maps, boxes, strict=True)]
    np.testing.assert_allclose(sums_inside(maps, boxes), sums, atol=1e-9)


def test_the_published_union_is_a_slice_by_x_with_negative_numbers() -> None:
    boxes = random_boxes(40, -8, SIDE + 8)[:, None]
    found = wrapped_union(boxes, np.ones((40, 1), bool), (SIDE, SIDE))
    for covered, (left, top, right, bottom) in zip(found, boxes[:, 0].tolist(), strict=True):
        expected = np.zeros((SIDE, SIDE), bool)
        expected[left:right, top:bottom] = True
        np.testing.assert_array_equal(covered, expected)


def test_the_box_of_a_map_is_that_of_its_largest_component() -> None:
    inside = blobs(60) > 0.6
    for found, one in zip(largest_component_boxes(inside), inside, strict=True):
        regions = region_boxes(one, connectivity=1)
        largest = max(area for area, _ in regions)
        np.testing.assert_array_equal(found, next(box for area, box in regions if area == largest))
    assert largest_component_boxes(np.zeros((1, 3, 3), bool)).tolist() == [[0, 0, 0, 0]]
    diagonal = np.eye(5, dtype=bool)[None]
    assert largest_component_boxes(diagonal).tolist() == [[0, 0, 1, 1]], "corners do not connect"


@pytest.mark.parametrize("metric", ["localization_error", "official_metric"])
def test_the_error_by_hand(metric: str) -> None:
    right, masks = RNG.random(100) < 0.6, OBJECTS[np.arange(100) % 4]
    maps = blobs(100) + RNG.random((100, 1, 1)) * masks
    expected = []
    for one, mask, is_right in zip(maps, masks, right, strict=True):
        _, box = max(region_boxes(one > one.mean(), 1), key=lambda pair: pair[0])
        hit = (painted(box) & mask).sum() / (painted(box) | mask).sum() > 0.5
        expected.append(0 if hit and (is_right or metric == "localization_error") else 1)
    found = METRICS[metric].compute(batch_of(maps, objects_of(masks), right=right))
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.mean(expected) < 1


def test_half_an_overlap_is_no_hit() -> None:
    maps = np.zeros((2, SIDE, SIDE))
    maps[0, 4:8, 4:12] = maps[1, 4:9, 4:12] = 1  # the box of the object is twice and less than twice as large
    batch = batch_of(maps, boxed([[[4, 4, 12, 12]], [[4, 4, 12, 12]]]))
    assert METRICS["localization_error"].compute(batch).tolist() == [1, 0]


def test_the_best_of_several_boxes_counts() -> None:
    maps = np.zeros((1, SIDE, SIDE))
    maps[0, 2:6, 2:6] = 1
    far, near = [14, 14, 20, 20], [2, 2, 6, 6]
    for name, expected in {
        "localization_error": 0,
        "pixel_f1": 1,
        "standard_pointing_game": 1,
        "tolerant_pointing_game": 1,
        "energy_pointing_game": 1,
    }.items():
        batch = batch_of(maps, boxed([[far, near]]))
        assert METRICS[name].compute(batch).tolist() == [expected], name


def test_f1_and_energy_by_hand() -> None:
    maps = np.zeros((1, SIDE, SIDE))
    maps[0, 0, 0:4] = [1.0, 0.5, 0.25, 0.25]
    batch = batch_of(maps, boxed([[[0, 0, 2, 2], [3, 0, 5, 1]]]))
    precision, recall = 1.5 / 2, 1.5 / 4
    assert METRICS["pixel_f1"].compute(batch) == pytest.approx(2 * precision * recall / (precision + recall))
    assert METRICS["energy_pointing_game"].compute(batch) == pytest.approx((1.5 + 0.25) / 2)


def test_f1_against_pixels() -> None:
    maps = blobs(50)
    boxes = random_boxes(100).reshape(50, 2, 4)
    found = METRICS["pixel_f1"].compute(batch_of(maps, boxed(boxes.tolist())))
    for value, one, some in zip(found, maps, boxes, strict=True):
        scores = []
        for box in some:
            precision, recall = one[painted(box)].sum() / one.sum(), one[painted(box)].mean()
            scores.append(2 * precision * recall / (precision + recall))
        assert value == pytest.approx(max(scores))


@pytest.mark.parametrize("kind", ["largest", "any"])
def test_overlaps_at_every_threshold_against_scikit_image(kind: str) -> None:
    maps = np.concatenate([blobs(6), RNG.random((4, SIDE, SIDE)), np.round(blobs(4), 1)])
    boxes = random_boxes(28).reshape(14, 2, 4)
    name = "box_accuracy" if kind == "largest" else "box_accuracy_v2"
    found = METRICS[name].compute(batch_of(maps, boxed(boxes.tolist())))
    for one, some, values_ in zip(maps, boxes, found, strict=True):
        scaled = (one - one.min()) / (one.max() - one.min())
        for threshold, value in zip(THRESHOLDS, values_, strict=True):
            regions = region_boxes(scaled >= threshold, connectivity=2)
            if kind == "largest":
                largest = max(area for area, _ in regions)
                regions = [next(pair for pair in regions if pair[0] == largest)]
            best = max(float(iou(box, some).max()) for _, box in regions)
            # Below what any box accuracy accepts, components that are too small are not looked at.
            assert value == pytest.approx(best) or (kind == "any" and max(best, value) < 0.3)


def test_box_accuracy_takes_one_threshold_for_all_images() -> None:
    overlaps = np.array([[0.6, 0.2, 0.5], [0.1, 0.9, 0.5], [0.4, 0.7, 0.1], [np.nan] * 3])
    ones = np.ones((1, 4))
    assert best_accuracy(overlaps, ones, 0.5).tolist() == pytest.approx([2 / 3])
    assert best_accuracy(overlaps, np.array([[3.0, 0, 0, 5], [0, 0, 0, 1]]), 0.5).tolist()[0] == 1
    assert np.isnan(best_accuracy(overlaps, np.array([[0, 0, 0, 1.0]]), 0.5)).all()
    expected = np.mean([best_accuracy(overlaps, ones, accepted)[0] for accepted in (0.3, 0.5, 0.7)])
    assert box_accuracy_v2.aggregate(overlaps, ones).tolist() == [pytest.approx(expected)]


def test_means_leave_out_what_is_undefined() -> None:
    numbers = np.array([[1.0], [np.nan], [0.0]])
    weights = np.array([[1, 1, 1], [3, 7, 1], [0, 2, 0]], float)
    found = weighted_mean(numbers, weights)
    assert found[:2].tolist() == [0.5, 0.75]
    assert np.isnan(found[2])


def test_pointing_is_any_highest_pixel() -> None:
    maps = np.zeros((3, SIDE, SIDE))
    maps[:, 20, 20] = 1
    maps[1, 5, 5] = 1  # tied with the first
    maps[2, 5, 5] = 0.999
    inside = boxed([[[4, 4, 8, 8]]] * 3)
    assert METRICS["standard_pointing_game"].compute(batch_of(maps, inside)).tolist() == [0, 1, 0]
    mask = np.zeros((3, SIDE, SIDE), bool)
    mask[:, 4:8, 4:8] = True
    assert METRICS["mask_pointing_game"].compute(batch_of(maps, objects_of(mask))).tolist() == [0, 1, 0]


def test_a_box_ends_before_its_right_and_bottom_edge_but_in_the_published_reading() -> None:
    maps = np.zeros((1, SIDE, SIDE))
    maps[0, 5, 8] = 1
    objects = boxed([[[4, 4, 8, 8]]])
    assert METRICS["standard_pointing_game"].compute(batch_of(maps, objects)).tolist() == [0]
    assert METRICS["standard_pointing_game"].compute(batch_of(maps, objects, PUBLISHED)).tolist() == [1]


def test_tolerance_is_a_disc_round_the_box() -> None:
    objects = boxed([[[8, 9, 12, 14], [17, 2, 19, 3]]])
    radius = 15 * SIDE / 224
    distance = ndimage.distance_transform_edt(~(painted(np.array([8, 9, 12, 14])) | painted(np.array([17, 2, 19, 3]))))
    maps = np.zeros((SIDE * SIDE, SIDE, SIDE))
    maps.reshape(SIDE * SIDE, -1)[np.arange(SIDE**2), np.arange(SIDE**2)] = 1
    several = boxed([[[8, 9, 12, 14], [17, 2, 19, 3]]] * SIDE**2)
    found = METRICS["tolerant_pointing_game"].compute(batch_of(maps, several)).reshape(SIDE, SIDE)
    np.testing.assert_array_equal(found == 1, distance <= radius)
    assert values("tolerant_pointing_game", batch_of(maps[:1], objects)).tolist() == [0]


def test_average_precision_is_scikit_learns() -> None:
    for one, mask in zip(np.concatenate([blobs(20), np.round(blobs(20), 1)]), OBJECTS[np.arange(40) % 4], strict=True):
        assert average_precision(one, mask) == pytest.approx(average_precision_score(mask.ravel(), one.ravel()))
    assert np.isnan(average_precision(blobs(1)[0], np.zeros((SIDE, SIDE), bool)))


def test_rank_accuracy_by_sorting() -> None:
    for one, mask in zip(RNG.random((40, SIDE, SIDE)), OBJECTS[np.arange(40) % 4], strict=True):
        highest = np.argsort(-one.ravel())[: mask.sum()]
        assert hits_among_highest(one, mask) == pytest.approx(mask.ravel()[highest].mean())
    tied = np.zeros((2, 2))
    mask = np.array([[True, False], [False, False]])
    assert hits_among_highest(tied, mask) == 0.25, "one of four, each as likely"


def test_mass_is_what_lies_on_the_mask() -> None:
    maps = 2 * blobs(8) - 1  # what is below 0 does not count
    masks = OBJECTS[np.arange(8) % 4]
    found = METRICS["mass_accuracy"].compute(batch_of(maps, objects_of(masks)))
    expected = [one[mask & (one > 0)].sum() / one[one > 0].sum() for one, mask in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(found, expected)


def test_the_saliency_metric_by_hand() -> None:
    maps = np.zeros((3, SIDE, SIDE))
    maps[0, 0:12, 0:12] = 1  # a quarter
    maps[1, 0:2, 0:2] = 1  # less than 0.05, which does not help
    maps[2, :, 0:12] = 1
    found = METRICS["saliency_metric"].compute(batch_of(maps, boxed([[]] * 3), scores=[0.5, 0.5, 0.0]))
    assert found[:2].tolist() == pytest.approx([np.log(0.25) - np.log(0.5), np.log(0.05) - np.log(0.5)])
    assert np.isfinite(found[2])
    batch = batch_of(maps, boxed([[]] * 3))
    with pytest.raises(ValueError, match="found no scores"):
        METRICS["saliency_metric"].compute(type(batch)(batch.maps, batch.objects, batch.settings, batch.right))
