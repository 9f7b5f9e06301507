"""How alike are two saliency maps? SSIM and Spearman's rank correlation over the pixels that may be compared.

Both lie in [-1, 1] and are 1 for equal maps. A map that is flat over the valid pixels has no structure and no order:
both are then undefined, which is None here and null on disk.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

K1, K2 = 0.01, 0.03


def is_flat(saliency: Map, valid: Mask) -> bool:
    """Say whether all valid values of a map are equal (or there are none)."""
    values = saliency[valid]
    return values.size == 0 or bool(values.min() == values.max())


def _window_means(arrays: Map, window: int) -> Map:
    """Return the mean over every window inside each (H, W) array: (..., H - window + 1, W - window + 1)."""
    height, width = arrays.shape[-2:]
    total = np.zeros((*arrays.shape[:-2], height + 1, width + 1))
    total[..., 1:, 1:] = arrays
    np.cumsum(total, axis=-2, out=total)
    rows = total[..., window:, :] - total[..., :-window, :]
    np.cumsum(rows, axis=-1, out=rows)
    return (rows[..., window:] - rows[..., :-window]) / (window * window)


def ssim(reference: Map, other: Map, valid: Mask, window: int) -> float | None:
    """Return the structural similarity of two maps.

    Uniform window, sample covariance, K1 = 0.01, K2 = 0.03; the data range is the larger of the two maps'
    (max - min). The mean is taken over the windows that contain only valid pixels. Without invalid pixels that is the
    mean of `skimage.metrics.structural_similarity`, which crops the border where windows leave the image; with some,
    it is the mean of its full map over the valid mask eroded by the window (the frame counting as invalid).

    Args:
        reference: (H, W).
        other: (H, W), carried back to the frame of ``reference``.
        valid: (H, W), true where the two may be compared.
        window: side of the window, odd, in pixels.

    Returns:
        A number in [-1, 1], or None where either map is flat over the valid pixels or no window fits.

    Source: Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004.
    """
    if is_flat(reference, valid) or is_flat(other, valid) or min(reference.shape) < window:
        return None
    count = window * window
    inside = _window_means(valid.astype(np.float64), window) > 1 - 0.5 / count
    if not inside.any():
        return None
    data_range = max(np.ptp(reference), np.ptp(other))
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # The running sums lose digits on large values, and neither variances nor covariances mind an offset.
    offset_a, offset_b = reference[valid].mean(), other[valid].mean()
    a, b = reference - offset_a, other - offset_b
    mean_a, mean_b, square_a, square_b, mixed = _window_means(np.stack([a, b, a * a, b * b, a * b]), window)
    sample = count / (count - 1)
    variance_a = sample * (square_a - mean_a * mean_a)
    variance_b = sample * (square_b - mean_b * mean_b)
    covariance = sample * (mixed - mean_a * mean_b)
    mean_a, mean_b = mean_a + offset_a, mean_b + offset_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float(np.clip((luminance * structure)[inside].mean(), -1.0, 1.0))


def ranks(values: Map) -> Map:
    """Return the ranks of a vector, from 1, ties sharing their average rank."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(ordered))
    ranked = np.empty(len(values))
    ranked[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranked


def spearman(reference: Map, other: Map, valid: Mask) -> float | None:
    """Return Spearman's rank correlation of two maps over the valid pixels, ties with average ranks.

    Args:
        reference: (H, W).
        other: (H, W), carried back to the frame of ``reference``.
        valid: (H, W), true where the two may be compared.

    Returns:
        A number in [-1, 1], or None where either map is flat over the valid pixels.
    """
    if is_flat(reference, valid) or is_flat(other, valid):
        return None
    middle = (np.count_nonzero(valid) + 1) / 2
    a, b = ranks(reference[valid]) - middle, ranks(other[valid]) - middle
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))
