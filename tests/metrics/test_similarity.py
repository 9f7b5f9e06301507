"""SSIM against skimage, Spearman against scipy, and cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.stats import rankdata, spearmanr
from skimage.metrics import structural_similarity
from skimage.transform import rotate

from pipeline.data.geometry import Validity, carry_back
from pipeline.metrics.similarity import Reference, ranks
from pipeline.metrics.similarity import spearman as spearman_of
from pipeline.metrics.similarity import ssim as ssim_of

ALL = np.ones((30, 30), bool)
BOTH: tuple[Validity, Validity] = ("whole", "published")


def ssim(
    a: np.ndarray, b: np.ndarray, valid: np.ndarray | None, window: int, validity: Validity = "whole"
) -> float | None:
    return ssim_of(Reference(a, window), b, valid, validity)


def spearman(a: np.ndarray, b: np.ndarray, valid: np.ndarray | None) -> float | None:
    return spearman_of(Reference(a, 5), b, valid)


def maps(seed: int, levels: int = 0, side: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.random((side, side))
    second = 0.6 * first + 0.4 * rng.random((side, side))
    if levels:
        first, second = np.round(first * levels) / levels, np.round(second * levels) / levels
    return first, second


def skimage_ssim(a: np.ndarray, b: np.ndarray, valid: np.ndarray, window: int, validity: Validity = "whole") -> float:
    data_range = max(np.ptp(a), np.ptp(b))
    mean, full = structural_similarity(a, b, win_size=window, data_range=data_range, full=True)
    if valid.all():
        return float(mean)
    outside = int(validity == "published")
    return float(full[binary_erosion(valid, np.ones((window, window)), border_value=outside)].mean())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 5]), st.sampled_from([3, 5, 7]), st.floats(-100, 100))
def test_ssim_equals_skimage(seed: int, levels: int, window: int, offset: float) -> None:
    a, b = maps(seed, levels)
    assert ssim(a + offset, b + offset, ALL, window) == pytest.approx(
        skimage_ssim(a + offset, b + offset, ALL, window), abs=1e-6
    )


@pytest.mark.parametrize("validity", BOTH)
@pytest.mark.parametrize("window", [3, 5, 7])
@pytest.mark.parametrize("transform", ["translate_x", "translate_y", "rotate"])
@pytest.mark.parametrize("magnitude", [-9.0, -1.0, 3.0, 8.0])
def test_masked_similarity_equals_the_libraries(
    transform: str, magnitude: float, window: int, validity: Validity
) -> None:
    a, b = maps(7)
    carried, valid = carry_back(b, transform, magnitude * (7 if transform == "rotate" else 1), validity)
    assert valid is not None
    assert not valid.all()
    expected = skimage_ssim(a, carried, valid, window, validity)
    assert ssim(a, carried, valid, window, validity) == pytest.approx(expected, abs=1e-9)
    assert spearman(a, carried, valid) == pytest.approx(spearmanr(a[valid], carried[valid]).statistic, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 2, 5]),
    st.sampled_from([3, 5, 7]),
    st.sampled_from(BOTH),
    st.floats(0.005, 0.2),
)
def test_any_mask_counts_the_windows_that_skimage_and_scipy_leave(
    seed: int, levels: int, window: int, validity: Validity, holes: float
) -> None:
    a, b = maps(seed, levels)
    valid = np.random.default_rng(seed).random(a.shape) >= holes
    eroded = binary_erosion(valid, np.ones((window, window)), border_value=int(validity == "published"))
    found = ssim(a, b, valid, window, validity)
    if valid.all() or eroded.any():
        assert found == pytest.approx(skimage_ssim(a, b, valid, window, validity), abs=1e-6)
    else:
        assert found is None


def published_as_written(a: np.ndarray, turned: np.ndarray, angle: float) -> tuple[float, float]:
    """Compare as the published code does, in its libraries alone."""
    carried = rotate(turned, -angle, clip=False)
    valid = rotate(np.ones_like(turned), -angle, clip=False) != 0
    structural = skimage_ssim(a, carried, valid, 5, "published")
    return structural, float(spearmanr(a[valid], carried[valid]).statistic)


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("angle", [-131.0, -60.0, 4.4, 45.0, 90.1])
def test_published_reading_equals_the_published_code(angle: float, levels: int) -> None:
    a, b = maps(11, levels, 56)
    carried, valid = carry_back(b, "rotate", angle, "published")
    found = ssim(a, carried, valid, 5, "published"), spearman(a, carried, valid)
    assert found == pytest.approx(published_as_written(a, b, angle), abs=1e-9)


@pytest.mark.parametrize(
    ("transform", "limit", "smoothness", "least", "greatest"),
    [("translate_x", 32, 0, 1e-4, 0.007), ("rotate", 135, 8, 0.01, 0.035)],
)
def test_how_far_the_two_readings_differ_at_the_papers_size(
    transform: str, limit: int, smoothness: int, least: float, greatest: float
) -> None:
    differences = []
    for seed in range(4):
        a, b = (gaussian_filter(one, smoothness) if smoothness else one for one in maps(seed, side=224))
        magnitude = float(np.random.default_rng(seed).integers(limit // 8, limit))
        moved = rotate(b, magnitude, clip=False) if transform == "rotate" else np.roll(b, int(magnitude), axis=1)
        published, whole = (
            ssim(a, *carry_back(moved, transform, magnitude, validity), 5, validity) or 0
            for validity in ("published", "whole")
        )
        differences.append(abs(published - whole))
    assert least < max(differences) < greatest


@pytest.mark.parametrize("valid", [None, ALL])
def test_without_invalid_pixels_there_is_one_reading(valid: np.ndarray | None) -> None:
    a, b = maps(3)
    expected = skimage_ssim(a, b, ALL, 5)
    assert [ssim(a, b, valid, 5, validity) for validity in BOTH] == pytest.approx([expected] * 2, abs=1e-9)


def test_one_reference_serves_both_readings() -> None:
    a, b = maps(5)
    reference = Reference(a, 5)
    valid = ALL.copy()
    valid[:4] = False
    for validity in (*BOTH, *BOTH):
        expected = skimage_ssim(a, b, valid, 5, validity)
        assert ssim_of(reference, b, valid, validity) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 5]))
def test_spearman_equals_scipy(seed: int, levels: int) -> None:
    a, b = maps(seed, levels)
    assert spearman(a, b, ALL) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic, abs=1e-12)


@pytest.mark.parametrize("kind", ["float16", "float32", "int8"])
@pytest.mark.parametrize("transform", ["identity", "flip_lr", "translate_x", "rotate"])
@pytest.mark.parametrize("validity", BOTH)
def test_stored_maps_are_compared_in_their_own_type(kind: str, transform: str, validity: Validity) -> None:
    a, b = ((3 * one - 1 if kind == "int8" else one).astype(kind) for one in maps(4))
    reference = Reference(a, 5)
    carried, valid = carry_back(b, transform, 6.0, validity)
    everywhere = ALL if valid is None else valid
    a, wide = a.astype(float), carried.astype(float)
    for _ in range(2):  # the second time with what the first one kept
        structural = skimage_ssim(a, wide, everywhere, 5, validity)
        assert ssim_of(reference, carried, valid, validity) == pytest.approx(structural, abs=1e-6)
        expected = spearmanr(a[everywhere], wide[everywhere]).statistic
        assert spearman_of(reference, carried, valid) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0]), min_size=1, max_size=50), st.booleans())
def test_ranks_of_halves_equal_scipy(values: list[float], negative: bool) -> None:
    halves = np.array(values if negative else np.abs(values), np.float16)
    np.testing.assert_array_equal(ranks(halves), rankdata(halves))


@pytest.mark.slow
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=50))
def test_ranks_equal_scipy(values: list[float]) -> None:
    np.testing.assert_array_equal(ranks(np.array(values)), rankdata(values))


def test_equal_maps_are_perfectly_similar() -> None:
    a, _ = maps(1)
    assert ssim(a, a, ALL, 5) == pytest.approx(1, abs=1e-12)
    assert spearman(a, a**3, ALL) == pytest.approx(1, abs=1e-12)


def test_opposite_and_unrelated_maps() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((80, 80)), rng.random((80, 80))
    everywhere = np.ones(a.shape, bool)
    assert spearman(a, -a, everywhere) == pytest.approx(-1, abs=1e-12)
    assert abs(spearman(a, b, everywhere) or 1) < 0.05
    assert abs(ssim(a, b, everywhere, 5) or 1) < 0.05


@pytest.mark.parametrize("flat_first", [True, False])
def test_a_flat_map_makes_both_undefined(flat_first: bool) -> None:
    a, _ = maps(1)
    pair = (np.full_like(a, 0.3), a) if flat_first else (a, np.zeros_like(a))
    part = ALL.copy()
    part[0] = False
    for valid in (None, ALL, part):
        assert [ssim(*pair, valid, 5, validity) for validity in BOTH] == [None, None]
        assert spearman(*pair, valid) is None


@pytest.mark.parametrize("flat_first", [True, False])
def test_flat_is_judged_over_the_valid_pixels(flat_first: bool) -> None:
    a, b = maps(1)
    flat = b.copy()
    flat[:20] = 0.5
    pair = (flat, a) if flat_first else (a, flat)
    valid = np.zeros_like(ALL)
    valid[:20] = True
    for validity in BOTH:
        assert ssim(*pair, valid, 5, validity) is None
        assert ssim(*pair, ~valid, 5, validity) is not None


def test_no_room_for_a_window_makes_ssim_undefined_and_leaves_spearman() -> None:
    a, b = maps(1)
    valid = np.zeros_like(ALL)
    valid[:, 10:14] = True
    assert [ssim(a, b, valid, 5, validity) for validity in BOTH] == [None, None]
    assert spearman(a, b, valid) is not None
    assert spearman(a, b, np.zeros_like(ALL)) is None


def test_invalid_pixels_do_not_matter() -> None:
    a, b = maps(1)
    valid = ALL.copy()
    valid[:8] = False
    changed = b.copy()
    changed[:8] = np.random.default_rng(9).random((8, 30))
    assert ssim(a, b, valid, 5) == pytest.approx(ssim(a, changed, valid, 5), abs=2e-3)  # through the data range alone
    assert spearman(a, b, valid) == spearman(a, changed, valid)
