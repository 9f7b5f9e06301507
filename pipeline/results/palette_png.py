"""PNG files of sheets, small for what they show: in all colours where that fits, and else in a palette."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy.spatial import KDTree

from pipeline.data.decode import Pixels

BYTES = 2_000_000
COLOURS = (256, 208, 160, 96, 64, 32, 16)
"""Of a file, the most that it does not grow too large with."""
SAMPLED = 4
"""Every so many-th pixel, in both directions, has a say in the choice of the colours."""
WHITE = 255


def encoded(pixels: Pixels, most: int = BYTES) -> bytes:
    """Return the bytes of a PNG file: in all its colours where that fits, else in 256 or fewer.

    Args:
        pixels: uint8 (H, W, 3), a sheet.
        most: bytes that it may have; only a sheet of noise has more in the fewest colours.
    """
    whole = _saved(Image.fromarray(pixels))
    if len(whole) <= most:
        return whole
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    seen = np.zeros(1 << 24, bool)
    seen[packed] = True
    found = np.flatnonzero(seen)
    colours = (found[:, None] >> np.array([16, 8, 0]) & 255).astype(np.uint8)
    sample = Image.fromarray(np.ascontiguousarray(pixels[::SAMPLED, ::SAMPLED]))
    table = np.zeros(1 << 24, np.uint8)
    for count in COLOURS:
        chosen = np.array(sample.quantize(count, Image.Quantize.MEDIANCUT, kmeans=1).getpalette()).reshape(-1, 3)
        chosen[np.abs(chosen - WHITE).sum(1).argmin()] = WHITE  # or the paper would take on a tint
        table[found] = KDTree(chosen).query(colours)[1]
        image = Image.fromarray(table[packed])
        image.putpalette(chosen.astype(np.uint8).tobytes())
        small = _saved(image)
        if len(small) <= most:
            break
    return small


def _saved(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)  # without a date; 9 takes eight times as long for one percent
    return buffer.getvalue()
