"""Filling in against a dense solve, grad-cam's imputer, and cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from scipy.ndimage import gaussian_filter

from pipeline.metrics.faithfulness.imputation import _Solver, impute


def dense(picture: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Fill in one picture (C, H, W) by writing the whole system down."""
    _, height, width = picture.shape
    places = [tuple(place) for place in np.argwhere(removed)]
    number = {place: at for at, place in enumerate(places)}
    matrix, right = np.zeros((len(places), len(places))), np.zeros((len(places), len(picture)))
    for at, (row, column) in enumerate(places):
        around = [
            ((row + down, column + across), 1 / 6 if down == 0 or across == 0 else 1 / 12)
            for down in (-1, 0, 1)
            for across in (-1, 0, 1)
            if (down, across) != (0, 0)
        ]
        inside = [(place, weight) for place, weight in around if 0 <= place[0] < height and 0 <= place[1] < width]
        total = sum(weight for _, weight in inside)
        matrix[at, at] = 1
        for place, weight in inside:
            if place in number:
                matrix[at, number[place]] -= weight / total
            else:
                right[at] += weight / total * picture[:, place[0], place[1]]
    filled = picture.copy()
    if places:
        filled[:, removed] = np.linalg.solve(matrix, right).T
    return filled


@settings(max_examples=40, deadline=None)
@given(
    st.integers(3, 31), st.integers(3, 31), st.integers(0, 2**32 - 1), st.floats(0.02, 0.98), st.sampled_from([0, 1, 4])
)
def test_equals_a_dense_solve(height: int, width: int, seed: int, share: float, smoothness: float) -> None:
    rng = np.random.default_rng(seed)
    picture, order = rng.standard_normal((3, height, width)), rng.random((height, width))
    order = gaussian_filter(order, smoothness) if smoothness else order
    removed = order.ravel().argsort().argsort().reshape(order.shape) < int(share * order.size)
    found = impute(torch.tensor(picture)[None], torch.tensor(removed)[None], tolerance=1e-12)[0].numpy()
    np.testing.assert_allclose(found, dense(picture, removed), atol=1e-8)
    np.testing.assert_array_equal(found[:, ~removed], picture[:, ~removed])


@pytest.mark.parametrize("smoothness", [0, 3, 12])
@pytest.mark.parametrize("percent", [10, 50, 90])
def test_equals_grad_cams_imputer(percent: int, smoothness: int) -> None:
    rng = np.random.default_rng(percent)
    side = 96
    picture = gaussian_filter(rng.standard_normal((3, side, side)), (0, 2, 2)).astype(np.float32)
    picture *= 2 / np.abs(picture).max()
    order = rng.random((side, side))
    order = gaussian_filter(order, smoothness) if smoothness else order
    removed = order > np.percentile(order, 100 - percent)
    expected = NoisyLinearImputer(noise=0)(torch.tensor(picture), torch.tensor(~removed).float())
    found = impute(torch.tensor(picture)[None], torch.tensor(removed)[None])[0]
    assert (found - expected).abs().max() < 4e-3  # of a range of about 4: less than half of ROAD's noise
    assert (found - expected)[:, removed].square().mean().sqrt() < 1e-3
    close = impute(torch.tensor(picture)[None], torch.tensor(removed)[None], tolerance=1e-6)[0]
    assert (close - expected).abs().max() < 2e-5


def test_rows_and_channels_do_not_depend_on_each_other() -> None:
    rng = np.random.default_rng(0)
    pictures = torch.tensor(rng.standard_normal((3, 3, 20, 20)), dtype=torch.float32)
    pictures[1, 2] = 0  # a channel that is solved before it begins
    removed = torch.tensor(rng.random((3, 20, 20)) < np.array([0.1, 0.5, 0.9])[:, None, None])
    together = impute(pictures, removed)
    for row in range(3):
        torch.testing.assert_close(impute(pictures[[row]], removed[[row]])[0], together[row], atol=1e-6, rtol=0)
    assert not together[1, 2].any()


def test_pictures_solved_together_as_on_a_gpu_stop_each_by_itself() -> None:
    rng = np.random.default_rng(1)
    pictures = torch.tensor(rng.standard_normal((4, 3, 40, 33)), dtype=torch.float64)
    pictures[2] *= 100
    order = np.stack([gaussian_filter(rng.random((40, 33)), width) for width in (0.1, 1, 4, 8)])
    ranks = order.reshape(4, -1).argsort(axis=1).argsort(axis=1).reshape(order.shape)
    removed = torch.tensor(ranks < order[0].size * np.array([0.05, 0.4, 0.8, 0.95])[:, None, None])
    for tolerance in (5e-4, 1e-10):  # the first picture is finished long before the last
        together = _Solver(pictures).solve(pictures, removed, tolerance)
        torch.testing.assert_close(together, impute(pictures, removed, tolerance), atol=1e-9, rtol=0)
    again = _Solver(pictures)
    again.solve(pictures.flip(0), removed.flip(0), 5e-4)  # room that was used before
    torch.testing.assert_close(again.solve(pictures, removed, 1e-10), together, atol=1e-12, rtol=0)


def test_nothing_removed_leaves_the_picture_and_everything_removed_has_no_answer() -> None:
    picture = torch.rand(2, 3, 8, 8)
    nothing = torch.zeros(2, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(impute(picture, nothing), picture, atol=0, rtol=0)
    nothing[1] = True
    with pytest.raises(ValueError, match="every pixel is removed"):
        impute(picture, nothing)


def test_a_picture_of_one_colour_stays() -> None:
    picture = torch.full((1, 3, 40, 40), 0.3)
    removed = torch.ones(1, 40, 40, dtype=torch.bool)
    removed[0, 3, 5] = False
    torch.testing.assert_close(impute(picture, removed, tolerance=1e-6), picture, atol=1e-4, rtol=0)


def test_steps_do_not_grow_with_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.metrics.faithfulness import imputation

    cycles: list[imputation._Solver] = []
    original = imputation._Solver._v_cycle

    def counted(solver: imputation._Solver, grids: list[imputation._Grid]) -> list[imputation.Operation]:
        operations = original(solver, grids)
        whole = grids[0] is solver.grids[0]
        return [lambda: cycles.append(solver), *operations] if whole else operations

    monkeypatch.setattr(imputation._Solver, "_v_cycle", counted)
    rng = np.random.default_rng(0)
    for side in (64, 224):
        order = gaussian_filter(rng.random((side, side)), side / 8)
        removed = torch.tensor(order > np.percentile(order, 20))
        cycles.clear()
        impute(torch.rand(1, 3, side, side), removed[None])
        assert 2 <= len(cycles) <= 8
