"""What the saliency metric asks the model about: the box of each map, cut out of the picture and enlarged."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.data.decode import FILTERS, Interpolation, Pixels
from pipeline.data.framing import Boxes


def cut_outs(pictures: Pixels, boxes: Boxes, interpolation: Interpolation) -> Pixels:
    """Return the part of each picture that lies in a box, resized to the whole picture's size.

    Args:
        pictures: (N, side, side, 3), as the model sees them before normalisation.
        boxes: (N, 4), one for each, such as `Batch.map_boxes`. One without area, which the map of a metric that is
            undefined has, stands for the whole picture.
        interpolation: the filter that the model's pictures are resized with.

    Returns:
        uint8 (N, side, side, 3).
    """
    height, width = pictures.shape[1:3]
    cut = np.empty_like(pictures)
    for place, (picture, box) in enumerate(zip(pictures, boxes.tolist(), strict=True)):
        left, top, right, bottom = box
        part = (left, top, right, bottom) if left < right and top < bottom else (0, 0, width, height)
        cut[place] = np.asarray(Image.fromarray(picture).resize((width, height), FILTERS[interpolation], box=part))
    return cut
