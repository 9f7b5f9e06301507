"""Datasets: a file per loader, found by its name; see `pipeline.registry.DATASETS`.

A loader turns whatever its source looks like into a `Collection`; everything after that (splits, tables, sizes) is
the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Box:
    """A box round an object, in pixels of the image file: edges, so that right - left is its width.

    (0, 0, 1, 1) is the first pixel.
    """

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Collection:
    """All images of a dataset.

    Attributes:
        class_names: the classes; a label is a position in this list.
        names: one readable name an image, such as its path below the dataset's root.
        labels: int64 array (N,), the class of each image.
        images: the bytes of one image file each, in any format Pillow reads.
        masks: the bytes of one PNG each, same size as the image, non-zero where the object is, None for an image
            without; None where the dataset has no ground truth of this kind.
        boxes: the boxes round the objects of each image, an empty list for an image without; None where the dataset
            has no ground truth of this kind.
        splits: "train", "validation" or "test" for each image, where the publisher fixed it (no image need be
            "validation"); None where the publisher did not.
    """

    class_names: list[str]
    names: list[str]
    labels: npt.NDArray[np.int64]
    images: list[bytes]
    masks: Sequence[bytes | None] | None = None
    boxes: Sequence[Sequence[Box]] | None = None
    splits: list[str] | None = None
