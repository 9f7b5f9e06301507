"""The input transforms: applied to images, and their geometry carried back on maps.

`TRANSFORMS` is the list of SPEC's thirteen, under the names of torchvision and Pillow, whose arithmetic they follow
bit by bit (tested). Images are uint8 arrays (N, H, W, 3); a batch shares the transform and has a magnitude an image.
Only numpy is used, so that scoring needs no torch.

Signs: a positive translation moves the picture right or down; a positive angle turns it counter-clockwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.images import Pixels

Magnitudes = npt.NDArray[np.float64]
Map = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Apply = Callable[[Pixels, Magnitudes], Pixels]
Stored = npt.NDArray[Any]
CarryBack = Callable[[Stored, float], tuple[Stored, Mask | None]]

STEPS_PER_SIDE = 31
TRANSLATION_PER_SIDE = 32 / 224


@dataclass(frozen=True)
class Transform:
    """One way to perturb an image.

    Attributes:
        kind: whether maps should follow it (geometric) or ignore it (photometric).
        limit: greatest magnitude, the least is its negative; None for a transform without magnitude. Translations
            give theirs as a part of the image's side.
        whole_pixels: whether magnitudes are pixels, to be rounded.
        apply: ``(images, magnitudes) -> images``; magnitudes are ignored when there are none.
        carry_back: ``(map, magnitude) -> (map, valid)`` undoes the geometry on one map (H, W), ``valid`` being None
            where all pixels are; None for photometric transforms, whose maps are compared as they are.
    """

    kind: Literal["geometric", "photometric"]
    limit: float | None
    apply: Apply
    whole_pixels: bool = False
    carry_back: CarryBack | None = None

    def ladder(self, size: int) -> list[float]:
        """Return the magnitudes to draw from, for images of ``size`` pixels a side.

        31 evenly spaced steps on each side of zero, which is left out. Translations are rounded to whole pixels: on
        small images some steps coincide or vanish, and each distinct non-zero one is kept once.
        """
        if self.limit is None:
            return []
        limit = self.limit * size if self.whole_pixels else self.limit
        side = [limit * step / STEPS_PER_SIDE for step in range(1, STEPS_PER_SIDE + 1)]
        if self.whole_pixels:
            side = sorted({float(round(value)) for value in side} - {0.0})
        return [-value for value in reversed(side)] + side


Scalar = TypeVar("Scalar", bound=np.generic)


def _shift(array: npt.NDArray[Scalar], pixels: int, axis: int) -> npt.NDArray[Scalar]:
    """Move along an axis, filling with zeros."""
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


def _translate(axis: int) -> tuple[Apply, CarryBack]:
    def apply(images: Pixels, magnitudes: Magnitudes) -> Pixels:
        return np.stack([_shift(image, int(by), axis) for image, by in zip(images, magnitudes, strict=True)])

    def carry_back(saliency: Stored, magnitude: float) -> tuple[Stored, Mask | None]:
        back = -int(magnitude)
        return _shift(saliency, back, axis), _shift(np.ones(saliency.shape, bool), back, axis)

    return apply, carry_back


def _flip(axis: int) -> tuple[Apply, CarryBack]:
    def apply(images: Pixels, magnitudes: Magnitudes) -> Pixels:
        return np.flip(images, axis + 1)

    def carry_back(saliency: Stored, magnitude: float) -> tuple[Stored, Mask | None]:
        return np.flip(saliency, axis), None

    return apply, carry_back


def _rotate(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    """Turn about the centre, nearest neighbour, black fill.

    The coordinates are computed in float32 in the order of torchvision's `rotate` on tensors, so that ties between
    two source pixels fall the same way.
    """
    height, width = images.shape[1:3]
    turned = np.zeros_like(images)
    f32 = np.float32
    x = np.linspace(-width * 0.5 + 0.5, width * 0.5 - 0.5, width, dtype=f32)
    y = np.linspace(-height * 0.5 + 0.5, height * 0.5 - 0.5, height, dtype=f32)
    for image, out, degrees in zip(images, turned, magnitudes, strict=True):
        angle = np.deg2rad(-degrees)
        cosine, sine = f32(np.cos(angle)), f32(np.sin(angle))
        grid_x = x[None, :] * (cosine / f32(0.5 * width)) + y[:, None] * (sine / f32(0.5 * width))
        grid_y = x[None, :] * (-sine / f32(0.5 * height)) + y[:, None] * (cosine / f32(0.5 * height))
        column = np.rint((grid_x + f32(1)) * f32(width / 2) - f32(0.5)).astype(np.int64)
        row = np.rint((grid_y + f32(1)) * f32(height / 2) - f32(0.5)).astype(np.int64)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        out[inside] = image[row[inside], column[inside]]
    return turned


def _carry_back_rotation(saliency: Stored, magnitude: float) -> tuple[Map, Mask]:
    """Turn a map back with bilinear interpolation, as `skimage.transform.rotate(map, -magnitude, clip=False)` does.

    Valid are the pixels whose value comes wholly from inside the turned frame: the published code also counts
    half-covered ones, which mix the map with the zeros around it.
    """
    height, width = saliency.shape
    angle = np.deg2rad(-magnitude)
    cosine, sine = np.cos(angle), np.sin(angle)
    x = np.arange(width) - (width - 1) / 2
    y = np.arange(height) - (height - 1) / 2
    column = cosine * x[None, :] - sine * y[:, None] + (width - 1) / 2
    row = sine * x[None, :] + cosine * y[:, None] + (height - 1) / 2
    # Turning by whole quarters lands on pixel centres but for the last bits, which must not spoil the border.
    column, row = np.round(column, 9), np.round(row, 9)
    valid = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
    padded = np.pad(saliency.astype(np.float64), 1)
    column, row = np.clip(column, -1, width) + 1, np.clip(row, -1, height) + 1
    left = np.minimum(column.astype(np.int64), width)
    top = np.minimum(row.astype(np.int64), height)
    right_part, bottom_part = column - left, row - top
    upper = padded[top, left] * (1 - right_part) + padded[top, left + 1] * right_part
    lower = padded[top + 1, left] * (1 - right_part) + padded[top + 1, left + 1] * right_part
    return upper * (1 - bottom_part) + lower * bottom_part, valid


def _blend(images: Pixels, other: npt.NDArray[np.float32], magnitudes: Magnitudes) -> Pixels:
    """Return factor * image + (1 - factor) * other with factor = 1 + magnitude, as torchvision rounds it: down."""
    factor = (1 + magnitudes)[:, None, None, None]
    mixed = factor.astype(np.float32) * images.astype(np.float32) + (1 - factor).astype(np.float32) * other
    return mixed.clip(0, 255).astype(np.uint8)


def _grey(images: Pixels) -> npt.NDArray[np.float32]:
    red, green, blue = (images[..., channel].astype(np.float32) for channel in range(3))
    weighted = np.float32(0.2989) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return np.floor(weighted)


def _brightness(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    return _blend(images, np.zeros((1, 1, 1, 1), np.float32), magnitudes)


def _color(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    return _blend(images, _grey(images)[..., None], magnitudes)


def _contrast(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    # The sum is a whole number: exact in float64, so the mean is the correctly rounded one.
    mean = _grey(images).sum(axis=(1, 2), dtype=np.float64) / (images.shape[1] * images.shape[2])
    return _blend(images, mean.astype(np.float32)[:, None, None, None], magnitudes)


def _neighbourhood_sums(images: Pixels, reach: int) -> npt.NDArray[np.uint16]:
    """Return the sums over (2 reach + 1) squares, for the pixels at least ``reach`` from the border."""
    side = 2 * reach + 1
    height, width = images.shape[1] - side + 1, images.shape[2] - side + 1
    down = images[:, :height].astype(np.uint16)  # 25 bytes add up to less than 2**16
    for offset in range(1, side):
        down += images[:, offset : offset + height]
    total = down[:, :, :width].copy()
    for offset in range(1, side):
        total += down[:, :, offset : offset + width]
    return total


def _smooth(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    """Return the 3 by 3 mean with the centre counted five times; border pixels stay as they are."""
    smooth = images.copy()
    # A whole number over 13 is never halfway between two others, so every way of rounding agrees.
    inner = _neighbourhood_sums(images, 1) + np.uint16(4) * images[:, 1:-1, 1:-1]
    smooth[:, 1:-1, 1:-1] = (inner + np.uint16(6)) // np.uint16(13)
    return smooth


def _sharpness(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    return _blend(images, _smooth(images, magnitudes).astype(np.float32), magnitudes)


def _blur(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    """Return the mean of the 16 pixels on the rim of the 5 by 5 square, halves up; two border pixels stay."""
    blurred = images.copy()
    rim = _neighbourhood_sums(images, 2) - _neighbourhood_sums(images[:, 1:-1, 1:-1], 1)
    blurred[:, 2:-2, 2:-2] = (rim + np.uint16(8)) // np.uint16(16)
    return blurred


def _autocontrast(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3, -1)  # fast to search
    low, high = (found(axis=2)[:, None, None].astype(np.float32) for found in (planes.min, planes.max))
    flat = low == high
    # Torch divides by multiplying with the reciprocal, which rounds differently; so does this.
    scale = np.where(flat, np.float32(1), np.float32(1) / np.where(flat, np.float32(1), high - low) * np.float32(255))
    stretched = (images.astype(np.float32) - np.where(flat, np.float32(0), low)) * scale
    return stretched.clip(0, 255).astype(np.uint8)


def _equalize_channel(channel: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    histogram = np.bincount(channel.ravel(), minlength=256)
    step = int(histogram[histogram > 0][:-1].sum()) // 255
    if step == 0:
        return channel
    below = np.concatenate([[0], np.cumsum(histogram)[:-1]])
    table = np.minimum((below + step // 2) // step, 255)
    return table.astype(np.uint8)[channel]


def _equalize(images: Pixels, magnitudes: Magnitudes) -> Pixels:
    equalized = np.empty_like(images)
    for image, out in zip(images, equalized, strict=True):
        for channel in range(3):
            out[..., channel] = _equalize_channel(image[..., channel])
    return equalized


_move_x, _move_x_back = _translate(axis=1)
_move_y, _move_y_back = _translate(axis=0)
_flip_lr, _flip_lr_back = _flip(axis=1)
_flip_ud, _flip_ud_back = _flip(axis=0)

TRANSFORMS: dict[str, Transform] = {
    "translate_x": Transform("geometric", TRANSLATION_PER_SIDE, _move_x, True, _move_x_back),
    "translate_y": Transform("geometric", TRANSLATION_PER_SIDE, _move_y, True, _move_y_back),
    "rotate": Transform("geometric", 135.0, _rotate, False, _carry_back_rotation),
    "flip_lr": Transform("geometric", None, _flip_lr, False, _flip_lr_back),
    "flip_ud": Transform("geometric", None, _flip_ud, False, _flip_ud_back),
    "brightness": Transform("photometric", 0.99, _brightness),
    "color": Transform("photometric", 0.99, _color),
    "contrast": Transform("photometric", 0.99, _contrast),
    "sharpness": Transform("photometric", 0.99, _sharpness),
    "autocontrast": Transform("photometric", None, _autocontrast),
    "equalize": Transform("photometric", None, _equalize),
    "blur": Transform("photometric", None, _blur),
    "smooth": Transform("photometric", None, _smooth),
}

IDENTITY = "identity"
"""What the plan calls an input that is left as it is; not a transform."""


def apply_each(images: Pixels, names: npt.NDArray[np.object_], magnitudes: Magnitudes) -> Pixels:
    """Apply to each image its own transform.

    Args:
        images: uint8 (N, H, W, 3); left untouched.
        names: (N,), keys of `TRANSFORMS` or `IDENTITY`.
        magnitudes: (N,), NaN where a transform has none.

    Returns:
        uint8 (N, H, W, 3), a new array.
    """
    perturbed = images.copy()
    for name in np.unique(names):
        if name != IDENTITY:
            rows = np.flatnonzero(names == name)
            perturbed[rows] = TRANSFORMS[name].apply(images[rows], magnitudes[rows])
    return perturbed


def carry_back(saliency: Stored, name: str, magnitude: float) -> tuple[Stored, Mask | None]:
    """Undo the geometry of a transform on the map of its image.

    Args:
        saliency: one map, (H, W), of the perturbed image, of any real type.
        name: key of `TRANSFORMS` or `IDENTITY`.
        magnitude: NaN where the transform has none.

    Returns:
        The map in the frame of the unperturbed image, zero where nothing came from inside the frame, and a boolean
        mask (H, W), true for the pixels that may be compared, or None where that is all of them. Rotation gives
        float64, everything else the type of the map.
    """
    back = None if name == IDENTITY else TRANSFORMS[name].carry_back
    return (saliency, None) if back is None else back(saliency, magnitude)
