"""Maps laid over their pictures, for people to look at."""

from __future__ import annotations

from collections.abc import Container

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.decode import Pixels
from pipeline.data.geometry import Mask
from pipeline.results.sheet import Bar
from pipeline.saliency.map_file import Map, Values

Table = npt.NDArray[np.float64]
"""Colours (256, 3) in [0, 1] of evenly spaced values, the least first."""

UNIT: Table = mpl.colormaps["inferno"](np.arange(256))[:, :3]
"""Of maps in [0, 1]: equal steps of a value look equally large, in grey and to the colour-blind too."""
AROUND_ZERO: Table = mpl.colormaps["coolwarm"](np.arange(256))[:, :3]
"""Of maps in [-1, 1]: red for, blue against."""
OPAQUE = {"unit": (0.35, 0.95), "signed": (0.0, 0.85), "ternary": (0.0, 0.75)}
"""How much of the picture a colour covers, for a value of 0 and for one of 1 or -1."""
GREY = (0.15, 0.85)
"""The grey of a black pixel and of a white one below a map."""
OUTSIDE = 224
"""The grey of pixels that cannot be compared."""
RGB_TO_GREY = np.array([0.299, 0.587, 0.114])


def blend(grey: npt.NDArray[np.float64], saliency: Map, values: Values) -> Table:
    """Return the colours of a map's values on a grey ground.

    Args:
        grey: of the ground, in [0, 1]; any shape that goes together with the map's.
        saliency: values as their kind has them; what lies outside is cut off.
        values: their kind.

    Returns:
        float64 (..., 3) in [0, 1].
    """
    least, table = (0, UNIT) if values == "unit" else (-1, AROUND_ZERO)
    steps = np.rint(255 * (np.clip(saliency, least, 1) - least) / (1 - least)).astype(np.intp)
    low, high = OPAQUE[values]
    opaque = (low + (high - low) * np.abs(np.clip(saliency, least, 1)))[..., None]
    mixed: Table = opaque * table[steps] + (1 - opaque) * grey[..., None]
    return mixed


def resized_picture(picture: Pixels, side: int) -> Pixels:
    """Return a picture (H, W, 3) at another size, uint8 (side, side, 3)."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def resized_mask(mask: Mask, side: int) -> Mask:
    """Return a mask (H, W) at another size, bool (side, side): nearest neighbours."""
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))


def lay_over(picture: Pixels, saliency: Map, values: Values, side: int, *, valid: Mask | None = None) -> Pixels:
    """Lay a map over its picture, which turns grey below it.

    Args:
        picture: uint8 (H, W, 3).
        saliency: float64 (H, W).
        values: the kind of its values.
        side: of what is returned, in pixels.
        valid: bool (H, W), false where there is no map; None if there is one everywhere.

    Returns:
        uint8 (side, side, 3).
    """
    steps = Image.Resampling.NEAREST if values == "ternary" else Image.Resampling.BILINEAR
    resized = np.asarray(Image.fromarray(saliency.astype(np.float32)).resize((side, side), steps), np.float64)
    dark, light = GREY
    grey = dark + (light - dark) * (resized_picture(picture, side) @ RGB_TO_GREY) / 255
    mixed = np.rint(255 * blend(grey, resized, values)).astype(np.uint8)
    if valid is not None:
        mixed[~resized_mask(valid, side)] = OUTSIDE
    return mixed


def scales(kinds: Container[Values]) -> list[Bar]:
    """Return the scales of the colours of some kinds of values, on a middle grey."""
    bars = []
    if "unit" in kinds:
        bars.append(Bar(_ramp(0, "unit"), "0", "1", "how much a pixel counts"))
    signed: tuple[Values, ...] = ("signed", "ternary")
    for values in signed:
        if values in kinds:
            bars.append(Bar(_ramp(-1, values), "−1", "1", "against and for the class"))
    return bars


def _ramp(least: float, values: Values) -> Pixels:
    colours = np.rint(255 * blend(np.array(0.5), np.linspace(least, 1, 96), values))
    return np.repeat(colours.astype(np.uint8)[None], 9, 0)
