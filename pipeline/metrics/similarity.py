"""How alike are two saliency maps? SSIM and Spearman's rank correlation over the pixels that may be compared.

Both lie in [-1, 1] and are 1 for equal maps. A map that is flat over the valid pixels has no structure and no order:
both are then undefined, which is None here and null on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.core.params import Settings
from pipeline.data.geometry import Validity

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

K1, K2 = 0.01, 0.03


class SimilaritySettings(Settings):
    """How two maps are compared.

    Attributes:
        window: side of SSIM's window, in pixels.
        validity: which pixels and windows of a map that was carried back count; see `ssim`.
    """

    window: Literal[3, 5, 7, 9, 11]
    validity: Validity


def is_flat(saliency: Values, valid: Mask | None = None) -> bool:
    """Say whether all valid values of a map are equal (or there are none)."""
    values = saliency if valid is None else saliency[valid]
    return values.size == 0 or bool(values.min() == values.max())


def _sums_along(arrays: Values, window: int, axis: int) -> Values:
    """Return the sum over every window inside an axis, by doubling: of 5, as (2 + 2) + 1."""

    def part(values: Values, start: int, length: int) -> Values:
        place: list[slice] = [slice(None)] * values.ndim
        place[axis] = slice(start, start + length)
        return values[tuple(place)]

    length = arrays.shape[axis] - window + 1
    total, covered, power, width = None, 0, arrays, 1
    while True:
        if window & width:
            shifted = part(power, covered, length)
            total = shifted if total is None else total + shifted
            covered += width
        if 2 * width > window:
            return total  # type: ignore[return-value]
        size = power.shape[axis] - width
        power = part(power, 0, size) + part(power, width, size)
        width *= 2


def _window_sums(arrays: Values, window: int) -> Values:
    """Return the sum over every window inside each (H, W) array: (..., H - window + 1, W - window + 1)."""
    return _sums_along(_sums_along(arrays, window, -2), window, -1)


def _mirrored(values: Floats, window: int) -> Floats:
    """Return a map continued over its frame by half a window, as in a mirror that stands on the frame."""
    return np.pad(values, window // 2, mode="symmetric")


@dataclass(frozen=True, eq=False)
class Reference:
    """A map that others are compared with, and what is the same in all those comparisons.

    Attributes:
        values: the map, (H, W), of any real type.
        window: side of SSIM's window, odd, in pixels.
    """

    values: Values
    window: int

    @cached_property
    def offset(self) -> float:
        """A value near the map's: squares of what remains keep their digits."""
        return float(self.values.astype(np.float64).mean())

    @cached_property
    def centred(self) -> Floats:
        """The map less the offset."""
        return self.values.astype(np.float64) - self.offset

    @cached_property
    def span(self) -> float:
        """Greatest less least value."""
        return float(self.centred.max() - self.centred.min())

    @cached_property
    def moments(self) -> tuple[Floats, Floats]:
        """Mean, and mean square, of the centred map over every window in the frame."""
        return self._moments(self.centred)

    @cached_property
    def mirrored(self) -> Floats:
        """The centred map, continued over its frame."""
        return _mirrored(self.centred, self.window)

    @cached_property
    def mirrored_moments(self) -> tuple[Floats, Floats]:
        """Mean, and mean square, over the windows around all pixels."""
        return self._moments(self.mirrored)

    def _moments(self, values: Floats) -> tuple[Floats, Floats]:
        mean, square = _window_sums(np.stack([values, values**2]), self.window) / self.window**2
        return mean, square

    @cached_property
    def ranks(self) -> tuple[Floats, float]:
        """Ranks of all pixels less their mean, and the sum of their squares."""
        return _centred_ranks(self.values.ravel())


def ssim(reference: Reference, other: Values, valid: Mask | None = None, validity: Validity = "whole") -> float | None:
    """Return the structural similarity of two maps.

    Uniform window, sample covariance, K1 = 0.01, K2 = 0.03; the data range is the larger of the two maps'
    (max - min). Without invalid pixels it is the mean of `skimage.metrics.structural_similarity`, which leaves out the
    windows that reach over the frame. With some, it is the mean of skimage's full map over the valid mask eroded by
    the window. What lies outside of the frame then counts as invalid ("whole"), or as valid ("published"): windows at
    the frame take part, and see the maps mirrored there.

    Args:
        reference: the map compared with.
        other: (H, W), carried back to the frame of ``reference``.
        valid: (H, W), true where the two may be compared; None for everywhere.
        validity: which windows count at the frame, where there are invalid pixels.

    Returns:
        A number in [-1, 1], or None if either map is flat over the valid pixels or no window fits.

    Source: Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.

    >>> saliency = np.random.default_rng(0).random((9, 9))
    >>> ssim(Reference(saliency, 5), saliency)
    1.0
    >>> ssim(Reference(saliency, 5), np.ones((9, 9))) is None  # flat
    True
    """
    window = reference.window
    b = other.astype(np.float64)
    if min(b.shape) < window or is_flat(b, valid) or is_flat(reference.centred, valid):
        return None
    count = window * window
    data_range = max(reference.span, float(b.max() - b.min()))
    offset_b = float(b.mean())
    b -= offset_b
    a, (mean_a, square_a) = reference.centred, reference.moments
    if validity == "published" and valid is not None and not valid.all():
        a, (mean_a, square_a) = reference.mirrored, reference.mirrored_moments
        b, valid = _mirrored(b, window), np.pad(valid, window // 2, constant_values=True)
    inside = None if valid is None else _window_sums(valid.astype(np.uint16), window) == count
    if inside is not None and not inside.any():
        return None
    mean_b, square_b, mixed = _window_sums(np.stack([b, b * b, a * b]), window) / count
    sample = count / (count - 1)
    variances = sample * (square_a - mean_a * mean_a + square_b - mean_b * mean_b)
    covariance = sample * (mixed - mean_a * mean_b)
    mean_a, mean_b = mean_a + reference.offset, mean_b + offset_b
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    similar = luminance * (2 * covariance + c2) / (variances + c2)
    return float(np.clip((similar if inside is None else similar[inside]).mean(), -1.0, 1.0))


SIGN = 0x8000


def _codes(values: Values) -> npt.NDArray[np.int64] | None:
    """Return small whole numbers in the order of the values, where their type makes that cheap."""
    if values.dtype == np.int8:
        return values.astype(np.int64) + 128
    if values.dtype == np.float16:
        # The bits of numbers that are not negative are ordered as the numbers are.
        bits = np.ascontiguousarray(values).view(np.uint16)
        return None if (bits >= SIGN).any() else bits.astype(np.int64)
    return None


def ranks(values: Values) -> Floats:
    """Return the ranks of a vector, from 1, ties sharing their average rank.

    Maps are stored in types of few values: those are counted instead of sorted.
    """
    codes = _codes(values)
    if codes is not None:
        counts = np.bincount(codes)
        return (np.cumsum(counts) - (counts - 1) / 2)[codes]
    if values.dtype == np.float16:
        values = values.astype(np.float32)  # nothing is fast on halves
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(ordered))
    ranked = np.empty(len(values))
    ranked[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranked


def _centred_ranks(values: Values) -> tuple[Floats, float]:
    centred = ranks(values) - (values.size + 1) / 2
    return centred, float(centred @ centred)


def spearman(reference: Reference, other: Values, valid: Mask | None = None) -> float | None:
    """Return Spearman's rank correlation of two maps over the valid pixels, ties with average ranks.

    Args:
        reference: the map compared with; its ranks are taken once where all pixels are valid.
        other: (H, W), carried back to the frame of ``reference``.
        valid: (H, W), true where the two may be compared; None for everywhere.

    Returns:
        A number in [-1, 1], or None if either map is flat over the valid pixels.

    >>> saliency = np.random.default_rng(0).random((9, 9))
    >>> spearman(Reference(saliency, 5), -saliency)
    -1.0
    """
    a, norm_a = reference.ranks if valid is None else _centred_ranks(reference.values[valid])
    b, norm_b = _centred_ranks(other.ravel() if valid is None else other[valid])
    if norm_a == 0 or norm_b == 0:  # all ranks are the same, or there are none
        return None
    return float(np.clip(a @ b / np.sqrt(norm_a * norm_b), -1.0, 1.0))
