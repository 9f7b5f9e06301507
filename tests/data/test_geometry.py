"""Maps carried back, against skimage, for both readings of which pixels are valid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import rotate

from pipeline.data.geometry import Validity, carry_back
from pipeline.data.perturb import perturb
from pipeline.data.transforms import IDENTITY, TRANSFORMS

BOTH: tuple[Validity, Validity] = ("whole", "published")
WHOLE_PIXELS = ["translate_x", "translate_y", "flip_lr", "flip_ud"]
PHOTOMETRIC = [name for name, transform in TRANSFORMS.items() if transform.kind == "photometric"]
ANGLES = [*TRANSFORMS["rotate"].ladder(24)[::5], 0.0, 45.0, 60.0, 90.0, -90.0, 180.0, 1e-3, 89.999]


@pytest.mark.parametrize("shape", [(24, 24), (33, 33), (224, 224), (20, 33)])
@pytest.mark.parametrize("angle", ANGLES)
def test_rotation_goes_back_as_skimage_does(angle: float, shape: tuple[int, int]) -> None:
    saliency = np.random.default_rng(1).random(shape) - 0.3
    expected = rotate(saliency, -angle, clip=False)
    ones = rotate(np.ones(shape), -angle, clip=False)
    back, valid = carry_back(saliency, "rotate", angle, "published")
    np.testing.assert_array_equal(back, expected)  # to the last bit, so that tied values stay tied or not
    np.testing.assert_array_equal(valid, ones != 0)
    back, valid = carry_back(saliency, "rotate", angle, "whole")
    np.testing.assert_allclose(back, expected, atol=1e-8)
    np.testing.assert_array_equal(valid, ones > 1 - 1e-6)


@settings(max_examples=200, deadline=None)
@given(st.floats(-180, 180), st.integers(5, 40), st.integers(0, 2**32 - 1))
def test_any_angle_and_size_as_skimage(angle: float, size: int, seed: int) -> None:
    saliency = np.random.default_rng(seed).integers(-1, 2, (size, size)).astype(np.float64)  # ties, as LIME's
    back, valid = carry_back(saliency, "rotate", angle, "published")
    np.testing.assert_array_equal(back, rotate(saliency, -angle, clip=False))
    np.testing.assert_array_equal(valid, rotate(np.ones_like(saliency), -angle, clip=False) != 0)
    assert valid is not None
    fewer = carry_back(saliency, "rotate", angle, "whole")[1]
    assert fewer is not None
    assert not (fewer & ~valid).any()


def test_the_two_readings_differ_at_the_edge_of_what_was_turned() -> None:
    saliency = np.random.default_rng(1).random((56, 56))
    whole = carry_back(saliency, "rotate", 30.0, "whole")[1]
    published = carry_back(saliency, "rotate", 30.0, "published")[1]
    assert whole is not None
    assert published is not None
    more = int(published.sum() - whole.sum())
    assert 56 < more < 4 * 56  # one or two pixels along the edges


@pytest.mark.parametrize("kind", ["float16", "float32", "int8", "uint8"])
def test_stored_types_turn_as_float64(kind: str) -> None:
    saliency = (np.random.default_rng(2).random((20, 20)) * 3).astype(kind)
    for validity in BOTH:
        back, _ = carry_back(saliency, "rotate", 33.0, validity)
        assert back.dtype == np.float64
        np.testing.assert_allclose(back, rotate(saliency.astype(np.float64), -33.0, clip=False), atol=1e-8)


@pytest.mark.parametrize("validity", BOTH)
@pytest.mark.parametrize(("angle", "turns"), [(90.0, 1), (180.0, 2), (-90.0, 3), (-180.0, 2)])
@pytest.mark.parametrize("size", [20, 21])
def test_quarter_turns_lose_nothing(validity: Validity, angle: float, turns: int, size: int) -> None:
    saliency = np.random.default_rng(2).random((size, size))
    back, valid = carry_back(np.rot90(saliency, turns), "rotate", angle, validity)
    assert valid is not None
    assert valid.all()
    np.testing.assert_allclose(back, saliency, atol=1e-8)


@pytest.mark.parametrize("validity", BOTH)
@given(st.sampled_from(WHOLE_PIXELS), st.integers(-12, 12), st.integers(10, 20), st.integers(0, 2**32 - 1))
def test_whole_pixel_geometry_is_undone_exactly(
    validity: Validity, name: str, magnitude: int, size: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(1, 256, (size, size + 3, 3), dtype=np.uint8)
    moved = perturb(image, name, float(magnitude))[..., 0].astype(np.float32)
    back, valid = carry_back(moved, name, float(magnitude), validity)
    assert back.dtype == np.float32
    if name.startswith("flip"):
        assert valid is None
        valid = np.ones(back.shape, bool)
    assert valid is not None
    np.testing.assert_array_equal(back[valid], image[..., 0][valid])
    side = {"translate_x": size + 3, "translate_y": size}.get(name, 0)
    lost = min(abs(magnitude), side) * valid.size // max(side, 1)
    assert valid.sum() == valid.size - lost
    assert (back[~valid] == 0).all()


@pytest.mark.parametrize("validity", BOTH)
@settings(max_examples=50, deadline=None)
@given(st.floats(-135, 135), st.integers(16, 48))
def test_a_linear_map_survives_rotation_there_and_back(validity: Validity, angle: float, size: int) -> None:
    # Bilinear interpolation is exact on a plane: turn its formula, carry it back, get the plane.
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radians = np.deg2rad(angle)
    x_before = np.cos(radians) * x - np.sin(radians) * y
    y_before = np.sin(radians) * x + np.cos(radians) * y
    back, valid = carry_back(3 * x_before - 2 * y_before + 1, "rotate", angle, validity)
    covered = carry_back(x, "rotate", angle, "whole")[1]
    assert valid is not None
    assert covered is not None
    np.testing.assert_allclose(back[covered], (3 * x - 2 * y + 1)[covered], atol=1e-6)
    assert valid.sum() >= covered.sum() >= 0.6 * size * size


@pytest.mark.parametrize("validity", BOTH)
@pytest.mark.parametrize("name", [*PHOTOMETRIC, IDENTITY])
def test_photometric_maps_stay_as_they_are(name: str, validity: Validity) -> None:
    saliency = np.random.default_rng(3).random((9, 9))
    back, valid = carry_back(saliency, name, 0.5, validity)
    assert back is saliency
    assert valid is None


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="turn"):
        carry_back(np.zeros((4, 4)), "turn", 1.0, "whole")
