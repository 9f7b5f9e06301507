"""Oxford 102 Flowers: 8,189 pictures of 102 kinds of flowers, with the publisher's segmentation of each.

Source: M.-E. Nilsback and A. Zisserman, Automated Flower Classification over a Large Number of Classes, Indian
Conference on Computer Vision, Graphics and Image Processing, 2008. Archives and names of the classes are those of
torchvision. The publisher gives no checksum of the segmentations; the one here is what others' downloads verify.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import StrictBool

from pipeline.core.errors import UserError
from pipeline.core.no_compiler import without_compiler
from pipeline.data.archives import (
    Archive,
    check_classes,
    check_images,
    in_threads,
    not_here,
    read_images,
    read_matrices,
    unpacked,
)
from pipeline.data.dataset import ArchivedSettings, Collection, Dataset
from pipeline.data.decode import open_image
from pipeline.data.ground_truth import encode_mask
from pipeline.data.image_files import read_file

CLASSES = 102
PICTURES, LABELS, SPLITS, SEGMENTATIONS = "jpg", "imagelabels.mat", "setid.mat", "segmim"
URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
CONTENTS = {
    PICTURES: Archive("102flowers.tgz", f"{URL}102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
    LABELS: Archive("imagelabels.mat", f"{URL}imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
    SPLITS: Archive("setid.mat", f"{URL}setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
    SEGMENTATIONS: Archive("102segmentations.tgz", f"{URL}102segmentations.tgz", "51375996b6c4f367a4b9f4492d7ecef5"),
}
SPLIT_NAMES = {"trnid": "train", "valid": "validation", "tstid": "test"}
"""The variables of ``setid.mat``."""
BACKGROUND, TOLERANCE = (0, 0, 254), 80.0
"""Colour of the pixels that are not the flower, and how far (in RGB) JPEG's noise may carry a pixel from it."""


class Settings(ArchivedSettings):
    """Whether the masks are read, from an archive of their own."""

    masks: StrictBool


def _needed(settings: Settings) -> dict[str, Archive]:
    return {path: archive for path, archive in CONTENTS.items() if path != SEGMENTATIONS or settings.masks}


def _class_names() -> list[str]:
    """Return the names of the flowers, which no file of the publisher's has; imported only when they are needed."""
    with without_compiler():
        from torchvision.datasets import Flowers102
    return list(Flowers102.classes)


def missing(settings: Settings) -> list[str]:
    """Say which archives are not here."""
    return not_here(settings.folder, _needed(settings), below=["flowers-102"])


def load(settings: Settings, seed: int) -> Collection:
    """Read all pictures, the JPEG files as they are, and the publisher's split.

    Raises:
        UserError: an archive, a file in it, or the number of classes or pictures is not as it should be.
    """
    with unpacked(settings.folder, _needed(settings), below=["flowers-102"]) as places:
        labels = _labels(places[LABELS])
        check_images(places[LABELS], len(labels), settings)
        splits = _splits(places[SPLITS], len(labels))
        names = [f"image_{number:05d}.jpg" for number in range(1, len(labels) + 1)]
        images, sizes = read_images(places[PICTURES] / name for name in names)
        masks = None
        if settings.masks:
            files = [places[SEGMENTATIONS] / name.replace("image", "segmim") for name in names]
            masks = in_threads(_mask, zip(files, sizes, strict=True))
    return Collection(
        class_names=_class_names(),
        names=names,
        labels=labels,
        images=images,
        masks=masks,
        splits=splits,
    )


def _labels(file: Path) -> npt.NDArray[np.int64]:
    (numbers,) = read_matrices(file, ["labels"])
    found = np.unique(numbers)
    check_classes(file, len(found), CLASSES)
    if found.tolist() != list(range(1, CLASSES + 1)):
        raise UserError(f"{file}: labels", f"found {found.min():g} to {found.max():g}", expected=f"1 to {CLASSES}")
    return numbers.ravel().astype(np.int64) - 1


def _splits(file: Path, count: int) -> list[str]:
    splits = [""] * count
    for name, numbers in zip(SPLIT_NAMES, read_matrices(file, list(SPLIT_NAMES)), strict=True):
        for number in numbers.ravel().tolist():
            position = int(number) - 1
            if position + 1 != number or not 0 <= position < count or splits[position]:
                raise UserError(f"{file}: {name}", f"found image {number:g}", expected=f"each of 1 to {count} once")
            splits[position] = SPLIT_NAMES[name]
    if "" in splits:
        raise UserError(file, f"found no split for image {splits.index('') + 1}", expected=f"one for each of {count}")
    return splits


def _mask(task: tuple[Path, tuple[int, int]]) -> bytes | None:
    file, size = task
    pixels = np.asarray(open_image(read_file(file), str(file)).convert("RGB"), dtype=np.float64)
    return encode_mask(np.linalg.norm(pixels - BACKGROUND, axis=-1) > TOLERANCE, size, str(file))


DATASET = Dataset(Settings, load, missing)
