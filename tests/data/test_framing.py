"""Boxes and masks follow the pictures through resizing and cropping."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.data.decode import encode_png, fit
from pipeline.data.framing import box_of, carry_boxes, carry_mask, together

SIZES = [(500, 375), (375, 500), (333, 500), (64, 64), (1000, 301), (40, 61)]


def painted(box: list[int], size: tuple[int, int]) -> np.ndarray:
    """Return a picture with a white box, float32 (H, W)."""
    mask = np.zeros((size[1], size[0]), np.float32)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize("crop_fraction", [1.0, 0.875])
@pytest.mark.parametrize("size", SIZES)
def test_a_box_lies_where_its_picture_shows_it(size: tuple[int, int], crop_fraction: float) -> None:
    rng = np.random.default_rng(sum(size))
    side, compared = 48, 0
    for _ in range(40):
        (left, right), (top, bottom) = (np.sort(rng.choice(length + 1, 2, replace=False)) for length in size)
        mask = painted([left, top, right, bottom], size)
        shown = np.asarray(fit(Image.fromarray(mask), side, crop_fraction, Image.Resampling.BOX)) > 0.5
        carried = carry_boxes([[left, top, right, bottom]], size, side, crop_fraction)
        if min(shown.sum(axis=0).max(), shown.sum(axis=1).max()) > 1:
            # Where a pixel is half in the box, either will do.
            assert np.abs(carried[0] - box_of(shown)).max() <= 1
            compared += 1
    assert compared > 10


def test_what_is_cropped_away_is_cut_off_or_left_out() -> None:
    # 100 by 50 becomes 40 by 20, of which columns 10 to 29 are kept.
    boxes = [[0, 0, 20, 50], [0, 10, 50, 40], [70, 0, 90, 50], [76, 0, 100, 50], [0, 0, 100, 50]]
    found = carry_boxes(boxes, (100, 50), 20, 1.0)
    assert found.tolist() == [[0, 4, 10, 16], [18, 0, 20, 20], [0, 0, 20, 20]]


def test_a_box_of_less_than_a_pixel_keeps_one() -> None:
    found = carry_boxes([[10, 10, 11, 11], [99, 99, 100, 100]], (100, 100), 10, 1.0)
    assert found.tolist() == [[1, 1, 2, 2], [9, 9, 10, 10]]


def test_the_published_reading_cuts_and_rounds_nothing() -> None:
    found = carry_boxes([[0, 11, 99, 48]], (100, 50), 20, 1.0, reading="published")
    # 0.4 times the edges, less 10 columns, with the fractions dropped
    assert found.tolist() == [[-10, 4, 29, 19]]
    assert found.dtype == np.int64


def test_no_boxes_are_no_boxes() -> None:
    assert carry_boxes([], (100, 50), 20, 1.0).shape == (0, 4)
    assert carry_boxes([], (100, 50), 20, 1.0, reading="published").shape == (0, 4)


@pytest.mark.parametrize("size", SIZES)
def test_a_mask_takes_the_nearest_pixels(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).random((size[1], size[0])) < 0.5
    fitted = fit(Image.fromarray(mask.astype(np.uint8)), 32, 0.875, Image.Resampling.NEAREST)
    for value in (1, 255):  # anything but 0 is on the object
        found = carry_mask(encode_png(np.where(mask, value, 0).astype(np.uint8)), 32, 0.875, "mask")
        np.testing.assert_array_equal(found, np.asarray(fitted) > 0)


def test_a_mask_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UserError, match=r"^images\.parquet: image 3: not a readable image"):
        carry_mask(b"no picture", 32, 1.0, "images.parquet: image 3")


def test_the_box_of_a_mask_is_tight() -> None:
    mask = np.zeros((6, 9), bool)
    mask[2:4, 5] = mask[3, 1] = True
    assert box_of(mask).tolist() == [1, 2, 6, 4]


def test_together_tells_none_from_nothing_left() -> None:
    two, left = np.array([[0, 0, 1, 1], [2, 2, 4, 4]]), np.zeros((0, 4), np.int64)
    mask = np.eye(4, dtype=bool)
    found = together([two, left, None], [None, mask, np.zeros((4, 4), bool)], 4)
    assert found.present.tolist() == [[True, True], [False, False], [False, False]]
    assert found.boxed.tolist() == [True, True, False]
    assert found.masked.tolist() == [False, True, True]
    np.testing.assert_array_equal(found.boxes[0], two)
    np.testing.assert_array_equal(found.masks[1], mask)
    assert len(found) == 3
