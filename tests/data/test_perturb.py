"""Perturbed images against torchvision and Pillow on Pillow images, bit by bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torchvision.transforms.functional as vision
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageEnhance, ImageFilter

from pipeline.data.perturb import APPLY, apply_each, perturb
from pipeline.data.transforms import IDENTITY, TRANSFORMS

NEAREST = vision.InterpolationMode.NEAREST
LIBRARY = {
    "translate_x": lambda image, m: vision.affine(image, 0.0, [int(m), 0], 1.0, [0.0, 0.0], NEAREST, fill=0),
    "translate_y": lambda image, m: vision.affine(image, 0.0, [0, int(m)], 1.0, [0.0, 0.0], NEAREST, fill=0),
    "rotate": lambda image, m: vision.rotate(image, m, NEAREST, fill=0),
    "flip_lr": lambda image, _: vision.hflip(image),
    "flip_ud": lambda image, _: vision.vflip(image),
    "brightness": lambda image, m: vision.adjust_brightness(image, 1 + m),
    "color": lambda image, m: vision.adjust_saturation(image, 1 + m),
    "contrast": lambda image, m: vision.adjust_contrast(image, 1 + m),
    "sharpness": lambda image, m: vision.adjust_sharpness(image, 1 + m),
    "autocontrast": lambda image, _: vision.autocontrast(image),
    "equalize": lambda image, _: vision.equalize(image),
    "blur": lambda image, _: image.filter(ImageFilter.BLUR),
    "smooth": lambda image, _: image.filter(ImageFilter.SMOOTH),
}
QUARTERS = [0.0, 90.0, -90.0, 180.0, -180.0, 45.0, -135.0, 30.0, 60.0]


def by_library(name: str, image: np.ndarray, magnitude: float) -> np.ndarray:
    return np.asarray(LIBRARY[name](Image.fromarray(image), magnitude))


def ladder(name: str, size: int) -> list[float]:
    return TRANSFORMS[name].ladder(size) or [float("nan")]


def pictures(height: int, width: int) -> np.ndarray:
    """Noise, little contrast, one grey, black, white, saturated colours, a ramp, and few distinct values."""
    rng = np.random.default_rng(height * width)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, height * width).astype(np.uint8).reshape(height, width, 1)
    saturated = np.where(noise > 128, 255, 0)
    one_colour = np.broadcast_to([250, 3, 90], noise.shape)
    made = [
        noise,
        noise // 4 + 60,
        noise * 0 + 77,
        noise * 0,
        noise * 0 + 255,
        saturated,
        one_colour,
        np.repeat(ramp, 3, axis=2),
        noise // 90 + 3,
        noise // 128 + 99,
    ]
    return np.stack([np.asarray(one, np.uint8) for one in made])


@pytest.mark.parametrize("shape", [(28, 28), (57, 57), (224, 224), (33, 50)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_equals_torchvision_on_pillow_images_at_every_magnitude(name: str, shape: tuple[int, int]) -> None:
    magnitudes = ladder(name, max(shape)) + (QUARTERS if name == "rotate" else [])
    images = pictures(*shape)
    if shape == (224, 224):
        images, magnitudes = images[:2], magnitudes[::3]
    for magnitude in magnitudes:
        changed = apply_each(images, np.array([name] * len(images), dtype=object), np.full(len(images), magnitude))
        expected = np.stack([by_library(name, image, magnitude) for image in images])
        np.testing.assert_array_equal(changed, expected, err_msg=f"{name} {magnitude}")


@pytest.mark.parametrize("shape", [(1, 6), (2, 2), (3, 3), (3, 5), (4, 4), (5, 5), (7, 4)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_images_smaller_than_a_filter_equal_the_library_too(name: str, shape: tuple[int, int]) -> None:
    magnitude = ladder(name, 64)[-1]
    for image in pictures(*shape):
        np.testing.assert_array_equal(perturb(image, name, magnitude), by_library(name, image, magnitude))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(TRANSFORMS)),
    st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(lambda shape: arrays(np.uint8, (*shape, 3))),
    st.floats(-1, 1, exclude_min=True),
)
def test_equals_torchvision_on_any_image(name: str, image: np.ndarray, share: float) -> None:
    limit = {"rotate": 135.0, "translate_x": 30.0, "translate_y": 30.0}.get(name, 0.99)
    magnitude = share * limit
    if name.startswith("translate"):
        magnitude = float(round(magnitude))
    np.testing.assert_array_equal(perturb(image, name, magnitude), by_library(name, image, magnitude))


@pytest.mark.parametrize("name", ["brightness", "contrast", "color", "sharpness"])
def test_enhancements_are_not_those_of_tensors(name: str) -> None:
    # What the published code gives differs from torchvision's arithmetic on tensors; this is what guards it.
    torch = pytest.importorskip("torch")
    image = pictures(57, 57)[0]
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    other = LIBRARY[name](tensor, 0.63).numpy().transpose(1, 2, 0)
    ours = perturb(image, name, 0.63)
    assert np.abs(ours.astype(int) - other).max() <= 2
    assert name == "brightness" or (ours != other).any()


def test_blending_equals_pillow_for_all_pairs_of_values() -> None:
    # Sharpness blends two values whatever they are. This shows every pair of them at every factor of the ladder.
    from pipeline.data.perturb import _blend

    values = np.arange(256, dtype=np.uint8)
    first, second = np.repeat(values, 256).reshape(256, 256), np.tile(values, (256, 1))
    for magnitude in [*TRANSFORMS["sharpness"].ladder(224), 0.0, -1.0, 3.7]:
        expected = Image.blend(Image.fromarray(first), Image.fromarray(second), 1 + magnitude)
        blended = _blend(first[None], second[None], [magnitude])[0]
        np.testing.assert_array_equal(blended, np.asarray(expected), err_msg=str(magnitude))


def test_the_grey_of_contrast_is_rounded_as_pillow_rounds_it() -> None:
    # Means just below, at and above a half: 1 pixel of 4 or 2 of 4 one grey lighter.
    for lighter in range(5):
        image = np.full((2, 2, 3), 100, np.uint8)
        image.reshape(4, 3)[:lighter] = 101
        expected = np.asarray(ImageEnhance.Contrast(Image.fromarray(image)).enhance(0.01))
        np.testing.assert_array_equal(perturb(image, "contrast", -0.99), expected)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_batch_is_its_images_and_is_left_untouched(name: str) -> None:
    images = np.tile(pictures(64, 64), (6, 1, 1, 1))  # more than is worked on together
    magnitudes = np.resize(ladder(name, 64), len(images)).astype(np.float64)
    before = images.copy()
    changed = apply_each(images, np.array([name] * len(images), dtype=object), magnitudes)
    assert changed.dtype == np.uint8
    assert changed.shape == images.shape
    assert not np.shares_memory(changed, images)
    np.testing.assert_array_equal(images, before)
    one_by_one = [perturb(image, name, magnitude) for image, magnitude in zip(images, magnitudes.tolist(), strict=True)]
    np.testing.assert_array_equal(changed, np.stack(one_by_one))
    assert (changed != images).any()


def test_each_image_gets_its_own_transform() -> None:
    names = np.array([IDENTITY, *TRANSFORMS, IDENTITY], dtype=object)
    images = pictures(32, 32)[np.zeros(len(names), int)]
    magnitudes = np.array([np.nan, *(ladder(name, 32)[-1] for name in TRANSFORMS), np.nan])
    changed = apply_each(images, names, magnitudes)
    np.testing.assert_array_equal(changed[[0, -1]], images[[0, -1]])
    for place, name in enumerate(TRANSFORMS, 1):
        np.testing.assert_array_equal(changed[place], by_library(name, images[place], magnitudes[place]), err_msg=name)


def test_views_and_read_only_images_are_taken() -> None:
    image = pictures(40, 40)[0][::-1, ::2]
    image.setflags(write=False)
    for name in TRANSFORMS:
        magnitude = ladder(name, 20)[0]
        expected = by_library(name, np.ascontiguousarray(image), magnitude)
        np.testing.assert_array_equal(perturb(image, name, magnitude), expected, err_msg=name)


def test_identity_is_a_copy() -> None:
    image = pictures(16, 16)[0]
    same = perturb(image, IDENTITY, float("nan"))
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


def test_a_positive_translation_moves_right_and_down_and_leaves_black() -> None:
    image = np.full((20, 20, 3), 9, np.uint8)
    image[0, 0] = 200
    assert (perturb(image, "translate_x", 3.0)[0, 3] == 200).all()
    assert (perturb(image, "translate_y", 3.0)[3, 0] == 200).all()
    assert (perturb(image, "translate_y", 3.0)[:3] == 0).all()
    assert (perturb(image, "translate_x", -25.0) == 0).all()


def test_a_positive_angle_turns_counter_clockwise() -> None:
    image = pictures(20, 20)[0]
    np.testing.assert_array_equal(perturb(image, "rotate", 90.0), np.rot90(image))


def test_many_threads_at_once_give_what_one_gives() -> None:
    names = np.resize(np.array(list(TRANSFORMS), dtype=object), 39)
    images = np.resize(pictures(64, 64), (39, 64, 64, 3))
    magnitudes = np.array([ladder(name, 64)[-2 if TRANSFORMS[name].limit else 0] for name in names])
    expected = apply_each(images, names, magnitudes)
    with ThreadPoolExecutor(8) as pool:
        for changed in pool.map(lambda _: apply_each(images, names, magnitudes), range(24)):
            np.testing.assert_array_equal(changed, expected)


def test_an_unknown_name_is_an_error() -> None:
    assert list(APPLY) == list(TRANSFORMS)
    with pytest.raises(KeyError, match="turn"):
        perturb(pictures(16, 16)[0], "turn", 1.0)
