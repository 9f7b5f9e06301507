"""What the saliency metric asks the model about: the box of each map, cut out of the picture and enlarged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from pipeline.data.decode import FILTERS, Interpolation, Pixels


def cut_out(picture: Pixels, box: Sequence[int], interpolation: Interpolation) -> Pixels:
    """Return the part of a picture that lies in a box, resized to the whole picture's size.

    Args:
        picture: uint8 (H, W, 3), as the model sees it before normalisation.
        box: left, top, right and bottom in pixels, such as one of `Batch.map_boxes`. One without area, which the map of
            a metric that is undefined has, stands for the whole picture.
        interpolation: the filter that the model's pictures are resized with.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    part = (left, top, right, bottom) if left < right and top < bottom else (0, 0, width, height)
    # Pillow's resize(box=...) would let pixels round the box take part.
    return np.asarray(Image.fromarray(picture).crop(part).resize((width, height), FILTERS[interpolation]))


class CutOuts(Mapping[int, Pixels]):
    """The cut-outs of some images, by the number of the image; each is made when it is asked for."""

    def __init__(
        self, pictures: Mapping[int, Pixels], boxes: Mapping[int, Sequence[int]], interpolation: Interpolation
    ) -> None:
        """Take the pictures, and the box of each; see `cut_out`."""
        self._pictures, self._boxes, self._interpolation = pictures, boxes, interpolation

    def __getitem__(self, image: int) -> Pixels:
        return cut_out(self._pictures[image], self._boxes[image], self._interpolation)

    def __iter__(self) -> Iterator[int]:
        return iter(self._boxes)

    def __len__(self) -> int:
        return len(self._boxes)
