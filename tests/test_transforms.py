"""Transforms against torchvision and Pillow, bit by bit; and maps carried back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as vision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from skimage.transform import rotate

from pipeline.transforms import IDENTITY, TRANSFORMS, apply_each, carry_back

NEAREST = vision.InterpolationMode.NEAREST
BY_TORCHVISION = {
    "translate_x": lambda image, m: vision.affine(image, 0.0, [int(m), 0], 1.0, [0.0, 0.0], NEAREST),
    "translate_y": lambda image, m: vision.affine(image, 0.0, [0, int(m)], 1.0, [0.0, 0.0], NEAREST),
    "rotate": lambda image, m: vision.rotate(image, m, NEAREST),
    "flip_lr": lambda image, m: vision.hflip(image),
    "flip_ud": lambda image, m: vision.vflip(image),
    "brightness": lambda image, m: vision.adjust_brightness(image, 1 + m),
    "color": lambda image, m: vision.adjust_saturation(image, 1 + m),
    "contrast": lambda image, m: vision.adjust_contrast(image, 1 + m),
    "sharpness": lambda image, m: vision.adjust_sharpness(image, 1 + m),
    "autocontrast": lambda image, m: vision.autocontrast(image),
    "equalize": lambda image, m: vision.equalize(image),
}
BY_PILLOW = {"blur": ImageFilter.BLUR, "smooth": ImageFilter.SMOOTH}
GEOMETRIC = [name for name, transform in TRANSFORMS.items() if transform.kind == "geometric"]


def reference(name: str, image: np.ndarray, magnitude: float) -> np.ndarray:
    if name in BY_PILLOW:
        return np.asarray(Image.fromarray(image).filter(BY_PILLOW[name]))
    changed = BY_TORCHVISION[name](torch.from_numpy(image.transpose(2, 0, 1).copy()), magnitude)
    return changed.numpy().transpose(1, 2, 0)


def pictures(size: int) -> np.ndarray:
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    dull = (noise // 4 + 60).astype(np.uint8)
    flat = np.full_like(noise, 77)
    ramp = np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None, None], noise.shape).copy()
    return np.stack([noise, dull, flat, ramp])


@pytest.mark.parametrize("size", [28, 57, 224])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform_equals_the_library_at_every_magnitude(name: str, size: int) -> None:
    transform = TRANSFORMS[name]
    for magnitude in transform.ladder(size) or [float("nan")]:
        for image in pictures(size):
            ours = transform.apply(image[None], np.array([magnitude]))[0]
            np.testing.assert_array_equal(ours, reference(name, image, magnitude), err_msg=f"{name} {magnitude}")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform_contract(name: str) -> None:
    transform, images = TRANSFORMS[name], pictures(32)
    ladder = transform.ladder(32) or [float("nan")]
    magnitudes = np.resize(np.array(ladder), len(images))
    before = images.copy()
    changed = transform.apply(images, magnitudes)
    assert changed.dtype == np.uint8
    assert changed.shape == images.shape
    np.testing.assert_array_equal(images, before)
    one_by_one = [transform.apply(images[i : i + 1], magnitudes[i : i + 1])[0] for i in range(len(images))]
    np.testing.assert_array_equal(changed, np.stack(one_by_one))
    assert (transform.carry_back is None) == (transform.kind == "photometric")


def test_ladders_are_the_papers() -> None:
    for transform in TRANSFORMS.values():
        ladder = transform.ladder(224)
        assert 0 not in ladder
        assert ladder == sorted(ladder)
        if transform.limit is not None:
            assert len(ladder) == 62
            assert np.allclose(ladder, -np.array(ladder)[::-1])
    assert TRANSFORMS["translate_x"].ladder(224)[-1] == 32
    assert TRANSFORMS["translate_x"].ladder(56) == [*range(-8, 0), *range(1, 9)]
    assert TRANSFORMS["rotate"].ladder(224)[-1] == pytest.approx(135)
    assert TRANSFORMS["color"].ladder(224)[0] == pytest.approx(-0.99)


def test_apply_each_mixes_transforms_and_leaves_the_input() -> None:
    images = pictures(32)
    before = images.copy()
    names = np.array([IDENTITY, "rotate", "flip_lr", "blur"], dtype=object)
    changed = apply_each(images, names, np.array([np.nan, 30.0, np.nan, np.nan]))
    np.testing.assert_array_equal(changed[0], images[0])
    np.testing.assert_array_equal(changed[1], reference("rotate", images[1], 30.0))
    np.testing.assert_array_equal(changed[3], reference("blur", images[3], 0.0))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("size", [24, 33])
@pytest.mark.parametrize("angle", [*TRANSFORMS["rotate"].ladder(24)[::5], 90.0, -90.0, 45.0, 180.0])
def test_rotation_goes_back_as_skimage_does(angle: float, size: int) -> None:
    saliency = np.random.default_rng(1).random((size, size))
    back, valid = carry_back(saliency, "rotate", angle)
    np.testing.assert_allclose(back, rotate(saliency, -angle, clip=False), atol=1e-9)
    covered = rotate(np.ones_like(saliency), -angle, clip=False)
    np.testing.assert_array_equal(valid, covered > 1 - 1e-6)


@given(
    st.sampled_from(["translate_x", "translate_y", "flip_lr", "flip_ud"]), st.integers(-9, 9), st.integers(10, 20),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_whole_pixel_geometry_is_undone_exactly(name: str, magnitude: int, size: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(1, 256, (1, size, size, 3), dtype=np.uint8)
    moved = TRANSFORMS[name].apply(image, np.array([float(magnitude)]))[0, ..., 0].astype(np.float64)
    back, valid = carry_back(moved, name, float(magnitude))
    if name.startswith("flip"):
        assert valid is None
        valid = np.ones((size, size), bool)
    np.testing.assert_array_equal(back[valid], image[0, ..., 0][valid])
    lost = abs(magnitude) * size if name.startswith("translate") else 0
    assert valid.sum() == size * size - lost
    assert (back[~valid] == 0).all()


@settings(max_examples=50, deadline=None)
@given(st.floats(-135, 135), st.integers(16, 48))
def test_a_linear_map_survives_rotation_there_and_back(angle: float, size: int) -> None:
    # Bilinear interpolation is exact on a plane: turn its formula, carry it back, get the plane.
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radians = np.deg2rad(angle)
    x_before = np.cos(radians) * x - np.sin(radians) * y
    y_before = np.sin(radians) * x + np.cos(radians) * y
    back, valid = carry_back(3 * x_before - 2 * y_before + 1, "rotate", angle)
    np.testing.assert_allclose(back[valid], (3 * x - 2 * y + 1)[valid], atol=1e-6)
    assert valid.sum() >= 0.6 * size * size


def test_quarter_turns_are_exact_and_lose_nothing() -> None:
    saliency = np.random.default_rng(2).random((20, 20))
    back, valid = carry_back(np.rot90(saliency), "rotate", 90.0)
    assert valid.all()
    np.testing.assert_allclose(back, saliency, atol=1e-8)


@pytest.mark.parametrize("name", [*(set(TRANSFORMS) - set(GEOMETRIC)), IDENTITY])
def test_photometric_maps_stay_as_they_are(name: str) -> None:
    saliency = np.random.default_rng(3).random((9, 9))
    back, valid = carry_back(saliency, name, 0.5)
    np.testing.assert_array_equal(back, saliency)
    assert valid is None
