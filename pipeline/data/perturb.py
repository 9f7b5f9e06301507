"""The input transforms, applied to images.

Every one equals, bit for bit, what torchvision's `transforms.functional` and Pillow's filters give for a Pillow image,
which is how the published code perturbs its images; torchvision gives other values for tensors. Pillow rotates and
turns grey. The rest is NumPy in the order of Pillow's own arithmetic, which is faster for it: whole batches at once,
and no copies to Pillow and back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.decode import Pixels
from pipeline.data.geometry import shift
from pipeline.data.transforms import IDENTITY

Values = npt.NDArray[np.uint8]
"""Values of pixels in [0, 255], of any shape."""

RAMP = np.arange(256, dtype=np.uint8)
"""All values of a channel: what becomes of them is the table of a transform that treats pixels one by one."""
PART = 2**19
"""Bytes of images that are worked on together: few enough for a processor's cache."""
SMOOTH_REACH, BLUR_REACH = 1, 2
"""From a pixel to the farthest ones that these filters look at, in pixels."""


def _image_by_image(change: Callable[[Pixels, float], Pixels]) -> Callable[[Pixels, list[float]], Pixels]:
    """Return what changes a batch by changing each image with its magnitude."""

    def apply(images: Pixels, magnitudes: list[float]) -> Pixels:
        changed = np.empty_like(images)
        for place, (image, magnitude) in enumerate(zip(images, magnitudes, strict=True)):
            changed[place] = change(image, magnitude)
        return changed

    return apply


def _translate(axis: int) -> Callable[[Pixels, float], Pixels]:
    return lambda image, magnitude: shift(image, int(magnitude), axis)


def _rotate(image: Pixels, magnitude: float) -> Pixels:
    """Turn about the centre, nearest neighbour, black fill."""
    turned = Image.fromarray(image).rotate(magnitude, Image.Resampling.NEAREST, fillcolor=(0, 0, 0))
    return np.asarray(turned)


def _blend(degenerate: Values, values: Values, magnitudes: list[float]) -> Values:
    """Return degenerate + factor * (values - degenerate), cut to [0, 255], with factor = 1 + magnitude.

    This is how `ImageEnhance` changes images; in float32 as in Pillow, and rounded down.

    Args:
        degenerate: (N, ...), what a factor of 0 would give.
        values: what a factor of 1 gives, of a shape that goes together with ``degenerate``.
        magnitudes: N of them.
    """
    factors = np.array([1 + magnitude for magnitude in magnitudes], np.float32)
    distance = values.astype(np.int16) - degenerate
    blended = distance * factors.reshape(-1, *[1] * (distance.ndim - 1))
    blended += degenerate
    return blended.clip(0, 255, out=blended).astype(np.uint8)


def _look_up(values: Values, table: Values) -> Values:
    """Return the entries of a table (256,) at some values, in an array of their shape."""
    return np.frombuffer(values.tobytes().translate(table.tobytes()), np.uint8).reshape(values.shape)


def _towards(grey: list[int], images: Pixels, magnitudes: list[float]) -> Pixels:
    """Blend each image with an even grey, by a table of what that makes of every value."""
    changed = np.empty_like(images)
    for place, table in enumerate(_blend(np.array(grey, np.uint8)[:, None], RAMP, magnitudes)):
        changed[place] = _look_up(images[place], table)
    return changed


def _brightness(images: Pixels, magnitudes: list[float]) -> Pixels:
    return _towards([0] * len(images), images, magnitudes)


def _one_below_the_other(images: Pixels) -> Image.Image:
    """Return a batch as one tall image: for small images, calls cost more than the arithmetic."""
    count, height, width, channels = images.shape
    return Image.fromarray(images.reshape(count * height, width, channels))


def _contrast(images: Pixels, magnitudes: list[float]) -> Pixels:
    pixels = images.shape[1] * images.shape[2]
    grey = np.asarray(_one_below_the_other(images).convert("L"))
    sums = grey.reshape(-1, pixels).sum(axis=1, dtype=np.int64).tolist()
    return _towards([int(total / pixels + 0.5) for total in sums], images, magnitudes)


def _color(images: Pixels, magnitudes: list[float]) -> Pixels:
    grey = np.asarray(_one_below_the_other(images).convert("L").convert("RGB"))
    return _blend(grey.reshape(images.shape), images, magnitudes)


def _sharpness(images: Pixels, magnitudes: list[float]) -> Pixels:
    return _blend(_smooth(images), images, magnitudes)


def _channel_by_channel(table: Callable[[Values], Values | None]) -> Callable[[Pixels, float], Pixels]:
    """Return what changes an image by a table for each channel, made from it; None leaves the channel as it is."""

    def change(image: Pixels, _: float) -> Pixels:
        changed = image.copy()
        for channel in range(image.shape[2]):
            plane = np.ascontiguousarray(image[..., channel])
            found = table(plane)
            if found is not None:
                changed[..., channel] = _look_up(plane, found)
        return changed

    return change


def _autocontrast(plane: Values) -> Values | None:
    low, high = int(plane.min()), int(plane.max())
    if low == high:
        return None
    scale = 255.0 / (high - low)
    stretched = RAMP * scale + -low * scale
    return stretched.clip(0, 255).astype(np.uint8)


def _equalize(plane: Values) -> Values | None:
    histogram = np.bincount(plane.ravel(), minlength=256)
    step = (plane.size - int(histogram[int(plane.max())])) // 255
    if step == 0:
        return None
    below = np.cumsum(histogram) - histogram
    return np.minimum((below + step // 2) // step, 255).astype(np.uint8)


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


def _smooth(images: Pixels, _: Iterable[float] = ()) -> Pixels:
    """Return the 3 by 3 mean with the centre counted five times; border pixels stay as they are."""
    smooth = images.copy()
    # A whole number over 13 is never halfway between two others, so every way of rounding agrees.
    inner = _neighbourhood_sums(images, SMOOTH_REACH) + np.uint16(4) * images[:, 1:-1, 1:-1]
    smooth[:, 1:-1, 1:-1] = (inner + np.uint16(6)) // np.uint16(13)
    return smooth


def _blur(images: Pixels, _: Iterable[float] = ()) -> Pixels:
    """Return the mean of the 16 pixels on the rim of the 5 by 5 square, halves up; two border pixels stay."""
    blurred = images.copy()
    if min(images.shape[1:3]) > 2 * BLUR_REACH:
        rim = _neighbourhood_sums(images, BLUR_REACH) - _neighbourhood_sums(images[:, 1:-1, 1:-1], SMOOTH_REACH)
        blurred[:, 2:-2, 2:-2] = (rim + np.uint16(8)) // np.uint16(16)
    return blurred


APPLY: dict[str, Callable[[Pixels, list[float]], Pixels]] = {
    "translate_x": _image_by_image(_translate(axis=1)),
    "translate_y": _image_by_image(_translate(axis=0)),
    "rotate": _image_by_image(_rotate),
    "flip_lr": lambda images, _: np.flip(images, 2),
    "flip_ud": lambda images, _: np.flip(images, 1),
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "autocontrast": _image_by_image(_channel_by_channel(_autocontrast)),
    "equalize": _image_by_image(_channel_by_channel(_equalize)),
    "blur": _blur,
    "smooth": _smooth,
}
"""How each of `TRANSFORMS` changes a batch (N, H, W, 3), given N magnitudes; the input is left untouched."""


def apply_each(images: Pixels, names: npt.NDArray[np.object_], magnitudes: npt.NDArray[np.float64]) -> Pixels:
    """Apply to each image its own transform.

    Args:
        images: RGB, uint8 (N, H, W, 3) in [0, 255]; left untouched.
        names: (N,), keys of `TRANSFORMS` or `IDENTITY`.
        magnitudes: (N,), NaN if a transform has none; pixels for translations, degrees for rotations, and otherwise
            greater than -1, the factor being 1 + magnitude.

    Returns:
        uint8 (N, H, W, 3), a new array.

    Raises:
        KeyError: there is no transform of that name.
    """
    perturbed = images.copy()
    together = max(1, PART // max(1, math.prod(images.shape[1:])))
    for name in set(names.tolist()) - {IDENTITY}:
        apply, places = APPLY[name], np.flatnonzero(names == name)
        for start in range(0, len(places), together):
            part = places[start : start + together]
            perturbed[part] = apply(images[part], magnitudes[part].tolist())
    return perturbed


def perturb(image: Pixels, name: str, magnitude: float) -> Pixels:
    """Apply a transform to one image, uint8 (H, W, 3); see `apply_each`, which is faster for many.

    >>> picture = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)  # two pixels
    >>> perturb(picture, "flip_lr", np.nan).tolist()
    [[[3, 4, 5], [0, 1, 2]]]
    """
    return apply_each(image[None], np.array([name], dtype=object), np.array([magnitude], dtype=np.float64))[0]
