"""Pictures brought to a model's size, against torchvision."""

from __future__ import annotations

import io
import resource

import numpy as np
import pytest
import torchvision.transforms as vision
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.data.decode import FILTERS, FORMATS, decode_images, encode_png, fit, open_image, resized

MODES = {
    Image.Resampling.BILINEAR: vision.InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: vision.InterpolationMode.BICUBIC,
    Image.Resampling.NEAREST: vision.InterpolationMode.NEAREST,
}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def by_torchvision(image: Image.Image, size: int, short: int, resample: Image.Resampling) -> np.ndarray:
    return np.asarray(vision.CenterCrop(size)(vision.Resize(short, MODES[resample])(image)))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(16, 64),
    st.sampled_from([1.0, 0.875, 224 / 232, 0.9, 0.5]),
    st.sampled_from(sorted(MODES)),
    st.integers(0, 2**16),
)
@example(100, 75, 57, 0.875, Image.Resampling.BICUBIC, 0)
@example(75, 101, 56, 1.0, Image.Resampling.BILINEAR, 0)
def test_fit_equals_torchvision(
    width: int, height: int, size: int, fraction: float, resample: Image.Resampling, seed: int
) -> None:
    image = picture(width, height, seed)
    expected = by_torchvision(image, size, round(size / fraction), resample)
    np.testing.assert_array_equal(np.asarray(fit(image, size, fraction, resample)), expected)


@pytest.mark.parametrize("resample", MODES)
@pytest.mark.parametrize("width", [500, 501, 333])
def test_fit_equals_torchvision_at_the_papers_sizes(resample: Image.Resampling, width: int) -> None:
    for image in (picture(width, 375), picture(300, width)):
        for short in (224, 232, 256):
            expected = by_torchvision(image, 224, short, resample)
            np.testing.assert_array_equal(np.asarray(fit(image, 224, 224 / short, resample)), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_modes_fit_too(mode: str) -> None:
    image = picture(90, 61).convert(mode)
    fitted = fit(image, 32, 0.875, Image.Resampling.NEAREST)
    assert fitted.mode == mode
    expected = by_torchvision(image, 32, 37, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(np.asarray(fitted), expected)


def test_the_long_side_is_rounded_down_and_half_an_offset_to_even() -> None:
    assert resized((249, 125), 50) == (99, 50)  # 99.6
    assert resized((125, 249), 50) == (50, 99)
    for long, offset in ((55, 2), (57, 4)):  # 2.5 and 3.5
        columns = np.tile(np.arange(long, dtype=np.uint8)[None, :, None], (50, 1, 3))
        for array in (columns, columns.transpose(1, 0, 2).copy()):
            assert np.asarray(fit(Image.fromarray(array), 50, 1.0, Image.Resampling.BILINEAR))[0, 0, 0] == offset


def test_masks_keep_their_values() -> None:
    mask = Image.fromarray((np.random.default_rng(0).random((70, 45)) > 0.5).astype(np.uint8) * 255)
    assert set(np.unique(np.asarray(fit(mask, 64, 0.9, Image.Resampling.NEAREST)))) == {0, 255}


@pytest.mark.parametrize("interpolation", FILTERS)
def test_decoding_resizes_with_the_filter_asked_for(interpolation: str) -> None:
    images = [picture(81, 60, seed) for seed in range(3)]
    pixels = decode_images(
        [encode_png(np.asarray(one)) for one in images], 32, 0.875, "test", interpolation=interpolation
    )  # type: ignore[arg-type]
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    np.testing.assert_array_equal(pixels, np.stack([by_torchvision(one, 32, 37, resample) for one in images]))
    assert pixels.dtype == np.uint8


def test_bilinear_is_assumed_and_the_filters_differ() -> None:
    encoded = [encode_png(np.asarray(picture(81, 60)))]
    bilinear, bicubic = (decode_images(encoded, 32, 1.0, "test", interpolation=one) for one in ("bilinear", "bicubic"))
    np.testing.assert_array_equal(decode_images(encoded, 32, 1.0, "test"), bilinear)
    assert (bilinear != bicubic).any()


def test_no_images_are_an_empty_batch() -> None:
    assert decode_images([], 20, 1.0, "test").shape == (0, 20, 20, 3)


@pytest.mark.parametrize("shape", [(60_000, 1), (1, 60_000)])
def test_a_picture_of_absurd_length_is_refused_without_taking_memory(shape: tuple[int, int]) -> None:
    encoded = encode_png(np.zeros((*shape, 3), np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sides = f"{shape[1]} by {shape[0]}"
    with pytest.raises(UserError, match=rf"^data/thin\.png: found an image of {sides} pixels; .* 1000 times") as error:
        decode_images([encoded], 224, 0.875, "data/thin.png")
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1), (2, 2_002)])
def test_a_thin_strip_is_refused_before_it_is_unpacked(shape: tuple[int, int]) -> None:
    height, width = shape
    message = (
        rf"^data/strip\.png: found an image of {width} by {height} pixels; allowed: at most 1000 times as long as wide"
    )
    with pytest.raises(UserError, match=message):
        decode_images([encode_png(np.zeros((*shape, 3), np.uint8))], 224, 0.875, "data/strip.png")


def test_a_long_picture_that_would_fill_the_memory_once_resized_is_refused() -> None:
    encoded = encode_png(np.zeros((2, 2000, 3), np.uint8))
    with pytest.raises(UserError, match=r"^data/long\.png: found an image of 2000 by 2 pixels, .* 100,000,000 pixels"):
        decode_images([encoded], 1024, 0.875, "data/long.png")


@pytest.mark.parametrize("kind", ["EPS", "ICO", "TGA", "SGI", "PCX"])
def test_other_formats_are_not_opened(kind: str) -> None:
    buffer = io.BytesIO()
    picture(40, 30).save(buffer, format=kind)
    with pytest.raises(UserError, match=r"^x: not a readable image \(cannot identify image file"):
        open_image(buffer.getvalue(), "x")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_is_named_is_opened(kind: str) -> None:
    buffer = io.BytesIO()
    picture(40, 30).save(buffer, format=kind)
    assert open_image(buffer.getvalue(), "x").size == (40, 30)


def test_a_long_picture_is_taken_while_it_fits() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2, 2_000, 3), np.uint8)).save(buffer, format="PNG")
    assert decode_images([buffer.getvalue()], 224, 1.0, "long").shape == (1, 224, 224, 3)  # 50 million pixels
