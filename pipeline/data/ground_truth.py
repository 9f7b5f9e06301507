"""Boxes and masks as publishers and users write them down, converted to those of a `Collection`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.data.dataset import Box
from pipeline.data.decode import encode_png


def clip_box(box: Box, size: tuple[int, int], source: str) -> Box:
    """Cut a box to its image.

    Args:
        box: as it was written down; annotators' boxes often reach a pixel or two beyond the edge.
        size: width and height of the image in pixels.
        source: the file, and where in it the box stands, for an error.

    Returns:
        The part of the box that lies on the image.

    Raises:
        UserError: nothing of it does, or it is not a box.
    """
    width, height = size
    edges = np.clip([box.left, box.top, box.right, box.bottom], 0, [width, height, width, height])
    clipped = Box(*edges.tolist())
    if not (clipped.left < clipped.right and clipped.top < clipped.bottom):  # so that not-a-number is refused too
        raise UserError(
            source,
            f"found a box from ({box.left:g}, {box.top:g}) to ({box.right:g}, {box.bottom:g})",
            expected=f"one on its image of {width} by {height} pixels",
        )
    return clipped


def upright(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Turn a box with its image.

    Args:
        box: on the image as it is stored.
        size: width and height of the stored image in pixels.
        orientation: EXIF's, 1 to 8, by which the image is turned to be upright.

    Returns:
        The box on the upright image.
    """
    (left, right), (top, bottom) = (box.left, box.right), (box.top, box.bottom)
    if orientation in (2, 3, 7, 8):  # the upright image begins at the stored one's right edge ...
        left, right = size[0] - right, size[0] - left
    if orientation in (3, 4, 6, 7):  # ... or bottom edge
        top, bottom = size[1] - bottom, size[1] - top
    return Box(left, top, right, bottom) if orientation < 5 else Box(top, left, bottom, right)


def encode_mask(inside: npt.NDArray[np.bool_], size: tuple[int, int], source: str) -> bytes | None:
    """Return a mask as a PNG, 255 on the object and 0 elsewhere.

    Args:
        inside: bool array (H, W), true on the object.
        size: width and height of its image in pixels.
        source: the mask's file, for an error.

    Returns:
        The bytes of the PNG; None for a mask without an object, which is not a ground truth.

    Raises:
        UserError: the mask is not of the image's size.
    """
    height, width = inside.shape
    if (width, height) != size:
        raise UserError(
            source,
            f"found a mask of {width} by {height} pixels",
            expected=f"{size[0]} by {size[1]}, as its image (or `masks: false`, to do without)",
        )
    return encode_png(np.where(inside, 255, 0).astype(np.uint8)) if inside.any() else None
