"""The box study of source 004: the object's own box as a map, the rest, and maps cut to either.

Each function returns maps to be scored as any other map is. Nothing is scaled: a map that is cut keeps its values.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.framing import Mask, Objects, Reading
from pipeline.metrics.localisation.boxes import Floats, Maps, union, wrapped_union


def box_pixels(objects: Objects, side: int, reading: Reading) -> Mask:
    """Return the pixels of an image's boxes, B.

    Args:
        objects: of N images.
        side: of the frame, in pixels.
        reading: "published" fills the pixels that source 004 fills; see docs/localisation.md.

    Returns:
        bool (N, side, side).
    """
    fill = wrapped_union if reading == "published" else union
    return fill(objects.boxes, objects.present, (side, side))


def box_map(pixels: Mask) -> Floats:
    """Return S := B, 1 in the boxes and 0 elsewhere: float64 (N, H, W)."""
    return pixels.astype(np.float64)


def rest_map(pixels: Mask) -> Floats:
    r"""Return S := I \ B, 0 in the boxes and 1 elsewhere: float64 (N, H, W)."""
    return box_map(~pixels)


def inside(maps: Maps, pixels: Mask) -> Floats:
    """Return B ∩ S, maps (N, H, W) with 0 outside of the boxes."""
    return maps * box_map(pixels)


def outside(maps: Maps, pixels: Mask) -> Floats:
    r"""Return S \ B, maps (N, H, W) with 0 in the boxes."""
    return maps * rest_map(pixels)
