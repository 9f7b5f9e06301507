"""Caltech-UCSD Birds-200-2011: 11,788 pictures of 200 kinds of birds, with a box and a mask of each bird.

Source: C. Wah, S. Branson, P. Welinder, P. Perona, S. Belongie, The Caltech-UCSD Birds-200-2011 Dataset, California
Institute of Technology, CNS-TR-2011-001, 2011; CaltechDATA, doi:10.22002/D1.20098 and doi:10.22002/D1.20097 (masks).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from pydantic import StrictBool

from pipeline.core.errors import UserError
from pipeline.data.archives import (
    Archive,
    check_classes,
    check_images,
    in_threads,
    not_here,
    read_images,
    unpacked,
)
from pipeline.data.dataset import ArchivedSettings, Box, Collection, Dataset
from pipeline.data.decode import open_image
from pipeline.data.ground_truth import clip_box, encode_mask
from pipeline.data.image_files import read_file

Value = TypeVar("Value")

CLASSES = 200
BIRDS, SEGMENTATIONS = "CUB_200_2011", "segmentations"
CONTENTS = {
    BIRDS: Archive(
        "CUB_200_2011.tgz",
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "97eceeb196236b17998738112f37df78",
    ),
    SEGMENTATIONS: Archive(
        "segmentations.tgz",
        "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz",
        "4d47ba1228eae64f2fa547c47bc65255",
    ),
}
SPLITS = {"1": "train", "0": "test"}
"""What ``train_test_split.txt`` writes for each."""


class Settings(ArchivedSettings):
    """Whether the masks are read, from an archive of their own."""

    masks: StrictBool


def _needed(settings: Settings) -> dict[str, Archive]:
    return {path: archive for path, archive in CONTENTS.items() if path == BIRDS or settings.masks}


def missing(settings: Settings) -> list[str]:
    """Say which archives are not here."""
    return not_here(settings.folder, _needed(settings), below=[BIRDS])


def load(settings: Settings, seed: int) -> Collection:
    """Read all pictures, the JPEG files as they are, their boxes and the publisher's split.

    Raises:
        UserError: an archive, a file in it, a line of a list, or the number of classes or pictures is not as it
            should be.
    """
    with unpacked(settings.folder, _needed(settings), below=[BIRDS]) as places:
        root = places[BIRDS]
        classes = _table(root / "classes.txt", str)
        check_classes(root / "classes.txt", len(classes), CLASSES)
        names = _table(root / "images.txt", _path_below)
        check_images(root / "images.txt", len(names), settings)
        classes_of = _table(root / "image_class_labels.txt", int, names)
        splits = _table(root / "train_test_split.txt", SPLITS.__getitem__, names)
        boxes = _table(root / "bounding_boxes.txt", _box, names)
        unknown = set(classes_of.values()) - set(classes)
        if unknown:
            raise UserError(
                root / "image_class_labels.txt", f"found the class {min(unknown)}", expected="those of classes.txt"
            )
        images, sizes = read_images(root / "images" / name for name in names.values())
        masks = None
        if settings.masks:
            files = [places[SEGMENTATIONS] / Path(name).with_suffix(".png") for name in names.values()]
            masks = in_threads(_mask, zip(files, sizes, strict=True))
        source = root / "bounding_boxes.txt"
        clipped = [
            [clip_box(boxes[key], size, f"{source}: image {key}")] for key, size in zip(names, sizes, strict=True)
        ]
    order = {key: label for label, key in enumerate(sorted(classes))}
    return Collection(
        class_names=[classes[key] for key in order],
        names=list(names.values()),
        labels=np.array([order[classes_of[key]] for key in names], dtype=np.int64),
        images=images,
        masks=masks,
        boxes=clipped,
        splits=[splits[key] for key in names],
    )


def _table(file: Path, parse: Callable[[str], Value], known: dict[int, str] | None = None) -> dict[int, Value]:
    """Read a list of the dataset: a number and a value per line, in the list's order.

    With ``known``, the numbers must be those of ``images.txt``.
    """
    table: dict[int, Value] = {}
    for number, line in enumerate(read_file(file).decode("utf-8", "replace").splitlines(), 1):
        key, _, text = line.strip().partition(" ")
        try:
            value = parse(text)
            if not (key.isascii() and key.isdecimal() and len(key) < 10) or not text:
                raise ValueError
        except (ValueError, KeyError):
            raise UserError(f"{file}: line {number}", f"found {line[:80]!r}", expected=_ALLOWED[file.name]) from None
        if int(key) in table:
            raise UserError(f"{file}: line {number}", f"found {key} a second time", expected="each number once")
        if known is not None and int(key) not in known:
            raise UserError(f"{file}: line {number}", f"found image {key}", expected="those of images.txt")
        table[int(key)] = value
    missing = set(known or ()) - set(table)
    if missing:
        raise UserError(file, f"found {len(table)} lines and none for image {min(missing)} of images.txt")
    return table


_ALLOWED = {
    "classes.txt": "a number and a name",
    "images.txt": "a number and a path below images",
    "image_class_labels.txt": "an image's and a class's number",
    "train_test_split.txt": "an image's number, and 1 (train) or 0 (test)",
    "bounding_boxes.txt": "an image's number, and x, y, width and height of a box",
}


def _path_below(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not text.isprintable():
        raise ValueError
    return text


def _box(text: str) -> Box:
    x, y, width, height = (float(part) for part in text.split())
    return Box(x, y, x + width, y + height)


def _mask(task: tuple[Path, tuple[int, int]]) -> bytes | None:
    """Return one mask: the pixels that more than half of the annotators took for the bird.

    A pixel's grey is the share of annotators who did.
    """
    file, size = task
    grey = np.asarray(open_image(read_file(file), str(file)).convert("L"))
    return encode_mask(grey > 255 / 2, size, str(file))


DATASET = Dataset(Settings, load, missing)
