"""The geometry of the transforms, undone on saliency maps, so that these can be compared pixel by pixel."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.data.transforms import IDENTITY, TRANSFORMS

Stored = npt.NDArray[Any]
"""A saliency map (H, W) of any real type."""
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Validity = Literal["published", "whole"]
"""Which pixels of a map that was carried back may be compared.

"whole": those whose value comes from inside the frame alone. "published": as in the published code, also those at the
edge that mix values of the map with the zeros around it.
"""

Scalar = TypeVar("Scalar", bound=np.generic)


def shift(array: npt.NDArray[Scalar], pixels: int, axis: int) -> npt.NDArray[Scalar]:
    """Return an array moved along an axis by some pixels, in a new array of its type, zeros where nothing came in."""
    moved = np.zeros_like(array)
    size = array.shape[axis]
    kept = max(0, size - abs(pixels))
    target = [slice(None)] * array.ndim
    source = [slice(None)] * array.ndim
    start = max(0, pixels)
    target[axis] = slice(start, start + kept)
    source[axis] = slice(start - pixels, start - pixels + kept)
    if kept:
        moved[tuple(target)] = array[tuple(source)]
    return moved


def _turned_positions(height: int, width: int, degrees: float) -> tuple[Floats, Floats]:
    """Return where in a turned map the pixels of the unturned one come from: columns and rows, (H, W) each.

    The matrices are multiplied in the order of `skimage.transform.rotate`, so that every bit agrees.
    """
    centre_x, centre_y = width / 2 - 0.5, height / 2 - 0.5
    angle = np.deg2rad(-degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    from_centre = np.array([[1, 0, -centre_x], [0, 1, -centre_y], [0, 0, 1]])
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    to_centre = np.array([[1, 0, centre_x], [0, 1, centre_y], [0, 0, 1]])
    (a, b, c), (d, e, f), _ = (to_centre @ (turn @ from_centre)).tolist()
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    return a * x + b * y + c, d * x + e * y + f


def _interpolate(saliency: Stored, column: Floats, row: Floats) -> Floats:
    """Return a map's values between its pixels, bilinearly, zeros outside the frame; sums in skimage's order."""
    height, width = saliency.shape
    padded = np.zeros((height + 2, width + 2))
    padded[1:-1, 1:-1] = saliency
    column, row = np.clip(column, -1, width), np.clip(row, -1, height)
    left = np.minimum(np.floor(column), width - 1)
    top = np.minimum(np.floor(row), height - 1)
    right_part, bottom_part = column - left, row - top
    left_part = 1 - right_part
    place = ((top + 1) * (width + 2) + (left + 1)).astype(np.intp)
    upper = left_part * padded.take(place) + right_part * padded.take(place + 1)
    place += width + 2
    lower = left_part * padded.take(place) + right_part * padded.take(place + 1)
    return (1 - bottom_part) * upper + bottom_part * lower


def _turn_back(saliency: Stored, degrees: float, validity: Validity) -> tuple[Floats, Mask]:
    height, width = saliency.shape
    column, row = _turned_positions(height, width, degrees)
    if validity == "whole":
        # Turning by whole quarters lands on pixel centres but for the last bits, which must not spoil the border.
        column, row = np.round(column, 9), np.round(row, 9)
        valid = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
    else:
        # A pixel has a share in everything less than a pixel away: this is where a map of ones is not zero any more.
        valid = (column > -1) & (column < width) & (row > -1) & (row < height)
    return _interpolate(saliency, column, row), valid


def carry_back(saliency: Stored, name: str, magnitude: float, validity: Validity) -> tuple[Stored, Mask | None]:
    """Undo the geometry of a transform on the map of its image.

    A rotation goes back with bilinear interpolation, as `skimage.transform.rotate(map, -magnitude, clip=False)` turns
    a map of float64 ("published": to the last bit).

    Args:
        saliency: the map (H, W) of the perturbed image, of any real type.
        name: key of `TRANSFORMS`, or `IDENTITY`.
        magnitude: as the image was perturbed with it: pixels, degrees, or NaN if the transform has none.
        validity: which pixels of a rotated map are valid; all other transforms know no edge between two pixels.

    Returns:
        The map in the frame of the unperturbed image, zero where nothing came from inside the frame, and a boolean
        mask (H, W), true for the pixels that may be compared, or None if those are all. Rotation gives float64,
        everything else the type of the map. What need not be changed is not copied.

    Raises:
        KeyError: there is no such transform.

    >>> saliency, valid = carry_back(np.arange(6.0).reshape(2, 3), "translate_x", 1.0, "whole")
    >>> saliency
    array([[1., 2., 0.],
           [4., 5., 0.]])
    >>> valid
    array([[ True,  True, False],
           [ True,  True, False]])
    """
    if name == IDENTITY or TRANSFORMS[name].kind == "photometric":
        return saliency, None
    if name == "rotate":
        return _turn_back(saliency, magnitude, validity)
    axis = 1 if name in ("translate_x", "flip_lr") else 0
    if name in ("flip_lr", "flip_ud"):
        return np.flip(saliency, axis), None
    back = -int(magnitude)
    return shift(saliency, back, axis), shift(np.ones(saliency.shape, bool), back, axis)
