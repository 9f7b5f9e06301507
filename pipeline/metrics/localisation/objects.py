"""The objects on a cell's images: carried into the network's frame once, and read for some images at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED
from pipeline.core.tables import read
from pipeline.data.decode import encode_png, open_image
from pipeline.data.framing import Boxes, Objects, Reading, box_of, carry_boxes, carry_mask, together
from pipeline.data.geometry import Mask
from pipeline.data.prepared import BOXES, IMAGES, prepared_file
from pipeline.metrics.localisation.tables import FRAME_BOXES, OBJECTS, table_file

CHUNK = 64
"""Images read together."""
EDGES = ["left", "top", "right", "bottom"]


def frame_objects(
    dataset: str, images: Sequence[int], side: int, crop_fraction: float, *, reading: Reading
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Carry the objects on some images of a dataset into a network's frame.

    Args:
        dataset: its name.
        images: their numbers.
        side: of the network's input, in pixels.
        crop_fraction: see `pipeline.data.decode.fit`.
        reading: how boxes are carried; see `pipeline.data.framing.carry_boxes`.

    Returns:
        The tables `OBJECTS` and `FRAME_BOXES`. An image with a mask and without a box has the mask's box.

    Raises:
        UserError: a table is missing or broken, has no such image, or has a box beyond the edges of its image.
    """
    objects: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for image, encoded, mask, drawn in _as_they_came(dataset, images):
        source = f"{prepared_file(dataset, IMAGES)}: image {image}"
        inside = None if mask is None else carry_mask(mask, side, crop_fraction, source)
        carried: Boxes = np.zeros((0, 4), np.int64)
        if mask is not None and not len(drawn):
            drawn = box_of(np.asarray(open_image(mask, source).convert("L")) > 0)[None].astype(np.float64)
        if len(drawn):
            size = open_image(encoded, source).size
            outside = (drawn < 0) | (drawn > np.tile(size, 2))
            if outside.any():
                number, edge = np.argwhere(outside)[0].tolist()
                raise UserError(
                    f"{prepared_file(dataset, BOXES)}: image {image}, box {number}",
                    f"found {EDGES[edge]} {drawn[number, edge]:g}",
                    expected=f"0 to {size[edge % 2]}, on an image of {size[0]} by {size[1]} pixels",
                )
            carried = carry_boxes(drawn, size, side, crop_fraction, reading=reading)
        objects.append({"image": image, "boxes": len(drawn), "mask": None if inside is None else _png(inside)})
        boxes += [
            {"image": image, "number": number, **dict(zip(EDGES, box, strict=True))}
            for number, box in enumerate(carried.tolist())
        ]
    return OBJECTS.from_lines(objects), FRAME_BOXES.from_lines(boxes)


def _as_they_came(
    dataset: str, images: Sequence[int]
) -> Iterator[tuple[int, bytes, bytes | None, np.ndarray[Any, np.dtype[np.float64]]]]:
    """Yield for each image its number, its file, its mask, and its boxes (K, 4)."""
    for start in range(0, len(images), CHUNK):
        chunk = list(images[start : start + CHUNK])
        files = read(IMAGES, prepared_file(dataset, IMAGES), chunk).set_index("image")
        boxes = read(BOXES, prepared_file(dataset, BOXES), chunk).sort_values(["image", "number"])
        absent = [image for image in chunk if image not in files.index]
        if absent:
            table = prepared_file(dataset, IMAGES)
            raise UserError(table, f"there is no image {absent[0]}", fix=DAMAGED)
        for image in chunk:
            mask = files["mask"][image]
            drawn = boxes.loc[boxes["image"] == image, EDGES].to_numpy(np.float64)
            yield image, files["encoded"][image], None if pd.isna(mask) else mask, drawn


def _png(inside: Mask) -> bytes:
    return encode_png(np.where(inside, 255, 0).astype(np.uint8))


class FrameObjects:
    """What `frame_objects` found, as arrays for some images at a time.

    Attributes:
        has_boxes: whether any image came with a box.
    """

    def __init__(self, objects: pd.DataFrame, boxes: pd.DataFrame, side: int) -> None:
        """Take the tables `OBJECTS` and `FRAME_BOXES`, and the side of the frame in pixels."""
        self._side = side
        self._boxed = dict(zip(objects["image"].tolist(), (objects["boxes"] > 0).tolist(), strict=True))
        present = objects.dropna(subset="mask")
        self._masks = dict(zip(present["image"].tolist(), present["mask"].tolist(), strict=True))
        edges = boxes[EDGES].to_numpy(np.int64)
        groups: dict[Any, Any] = boxes.groupby("image").indices
        self._boxes = {int(image): edges[at] for image, at in groups.items()}
        self.has_boxes = any(self._boxed.values())

    @classmethod
    def read(cls, folder: Path, side: int) -> FrameObjects:
        """Read the two tables of a cell; what is missing or does not fit is a `UserError`."""
        objects, boxes = (read(table, table_file(folder, table)) for table in (OBJECTS, FRAME_BOXES))
        return cls(objects, boxes, side)

    def of(self, images: Sequence[int]) -> Objects:
        """Return the objects on some images.

        Raises:
            UserError: nothing is said of one of them.
        """
        absent = [image for image in images if image not in self._boxed]
        if absent:
            raise UserError("table objects", f"found no image {absent[0]}", fix=DAMAGED)
        nothing: Boxes = np.zeros((0, 4), np.int64)
        boxes = [self._boxes.get(image, nothing) if self._boxed[image] else None for image in images]
        masks = [self._mask(image) if image in self._masks else None for image in images]
        return together(boxes, masks, self._side)

    def _mask(self, image: int) -> Mask:
        return np.asarray(open_image(self._masks[image], f"table objects: image {image}")) > 0
