"""ImageNet's validation images: 50,000 in 1,000 classes, with boxes, for networks with these classes.

The user has them from the publisher; `docs/imagenet.md` says what lies where. Only the images that are asked for are
opened, and never all of them are in memory.

Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 115, 2015.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import StrictBool

from pipeline.core import params
from pipeline.core.device import threads
from pipeline.core.errors import UserError
from pipeline.core.parallel import in_order
from pipeline.core.params import Count, PathText
from pipeline.core.randomness import stream_seed
from pipeline.data.dataset import Box, Collection, Dataset, DatasetSettings
from pipeline.data.devkit import GROUND_TRUTH, read_devkit
from pipeline.data.ground_truth import upright
from pipeline.data.image_files import ImageFiles, read_header
from pipeline.data.imagenet_classes import WNID, imagenet_classes, read_class_index
from pipeline.data.voc import read_boxes

CLASS_INDEX = "imagenet_class_index.json"
IMAGE, ANNOTATION = "ILSVRC2012_val_*.JPEG", "ILSVRC2012_val_*.xml"
IMAGES, LABELS, BOXES = f"images ({IMAGE})", f"labels ({GROUND_TRUTH})", f"boxes ({ANNOTATION})"
IMAGE_FOLDERS = ("", "val", "ILSVRC2012_img_val", "Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val")
DEVKIT_FOLDERS = ("ILSVRC2012_devkit_t12/data", "data", "")
BOX_FOLDERS = ("Annotations/CLS-LOC/val", "ILSVRC/Annotations/CLS-LOC/val", "bbox/val", "val", "")
"""Where the publisher's archives, or those who pass them on, put things."""


class Settings(DatasetSettings):
    """Which images are read, and what goes with them.

    Attributes:
        folder: the folder of the images, or one that has them at one of the usual places below it.
        labels: what says the class of an image: the development kit, or the folder that it lies in.
        boxes: whether the boxes are read.
        images: how many, drawn as evenly over the classes as the number allows; or all.
        split: none, since all images test.
    """

    folder: PathText
    labels: Literal["devkit", "folders"]
    boxes: StrictBool
    images: Count | Literal["all"]
    split: None = None


class Labelled(NamedTuple):
    """An image file and the WordNet ID of what it shows."""

    file: Path
    wnid: str


def missing(settings: Settings) -> list[str]:
    """Say which of the publisher's files are not here."""
    return [
        f"{settings.folder}: {what}, from ImageNet's publisher"
        for what, place in _places(settings).items()
        if place is None
    ]


def load(settings: Settings, seed: int) -> Collection:
    """Choose images by their names, and read the boxes of those chosen; the files are read when they are asked for.

    Images come in the order in which they were drawn: the first of every class, the second of every class, and so on.
    A larger number adds to those of a smaller one, whose numbers stay.

    Raises:
        UserError: the images, labels or boxes are not where they should be, are damaged, or do not fit together; or
            more images are asked for than there are.
    """
    places = {}
    for what, place in _places(settings).items():
        if place is None:
            raise UserError(
                f"{settings.folder}: {what}", "found none", expected="one of the layouts of docs/imagenet.md"
            )
        places[what] = place
    labelled = _from_devkit(places) if settings.labels == "devkit" else _from_folders(places[IMAGES])
    source = places[LABELS] / GROUND_TRUTH if settings.labels == "devkit" else places[IMAGES]
    classes = _classes(Path(settings.folder) / CLASS_INDEX, labelled, source)
    numbers = {wnid: number for number, wnid in enumerate(classes)}
    chosen = _draw(labelled, settings.images, seed, source)
    boxes = None
    if settings.boxes:
        boxes = list(in_order(partial(_boxes, places[BOXES]), (image.file for image in chosen), threads()))
    return Collection(
        class_names=list(classes.values()),
        names=[image.file.name for image in chosen],
        labels=np.array([numbers[image.wnid] for image in chosen], dtype=np.int64),
        images=ImageFiles([image.file for image in chosen]),
        boxes=boxes,
        splits=["test"] * len(chosen),
    )


def _places(settings: Settings) -> dict[str, Path | None]:
    """Return the folder of each kind of file that is needed; None for one that is not there."""
    root = Path(settings.folder)
    images = _holder(root, IMAGE_FOLDERS, IMAGE) or _holder(root, IMAGE_FOLDERS, f"n{'[0-9]' * 8}/{IMAGE}")
    places = {IMAGES: images}
    if settings.labels == "devkit":
        places[LABELS] = _holder(root, DEVKIT_FOLDERS, GROUND_TRUTH)
    if settings.boxes:
        places[BOXES] = _holder(root, BOX_FOLDERS, ANNOTATION)
    return places


def _holder(root: Path, folders: Sequence[str], pattern: str) -> Path | None:
    """Return the first of some folders that has a file of that name."""
    return next((root / one for one in folders if next((root / one).glob(pattern), None) is not None), None)


def _classes(index: Path, images: Sequence[Labelled], source: Path) -> dict[str, str]:
    """Return the name of each class by its WordNet ID; all classes of the images are among them."""
    own = index.exists()
    classes = read_class_index(index) if own else imagenet_classes()
    for file, wnid in images:
        if wnid not in classes:
            known = index if own else f"the {len(classes)} of ImageNet's challenge, unless {index} says others"
            raise UserError(f"{source}: {file.name}", f"found the class {wnid}", expected=known)
    return classes


def _from_devkit(places: Mapping[str, Path]) -> list[Labelled]:
    """Return the images that the development kit lists, wherever they lie."""
    images = places[IMAGES]
    flat = next(images.glob(IMAGE), None) is not None
    listed = enumerate(read_devkit(places[LABELS]), 1)
    names = [(IMAGE.replace("*", f"{number:08d}"), wnid) for number, wnid in listed]
    return [Labelled(images / name if flat else images / wnid / name, wnid) for name, wnid in names]


def _from_folders(images: Path) -> list[Labelled]:
    """Return the images in folders that are called as their classes are."""
    folders = sorted(one for one in images.iterdir() if one.is_dir() and WNID.fullmatch(one.name))
    if not folders:
        raise UserError(
            images,
            "found images that are not in folders",
            expected="one folder per class, called by its WordNet ID (n01440764), which labels: folders needs",
            fix=f"{params.at('datasets.*.labels')} can say devkit instead",
        )
    found = [Labelled(file, folder.name) for folder in folders for file in sorted(folder.glob(IMAGE))]
    places: dict[str, Path] = {}
    for file, _ in found:
        if (first := places.setdefault(file.name, file)) != file:
            raise UserError(file, f"found a second time, the first is {first}", expected="each image once")
    return found


def _draw(images: Sequence[Labelled], count: int | Literal["all"], seed: int, source: Path) -> list[Labelled]:
    """Return some images as evenly over the classes as their number allows, in an order that does not depend on it."""
    if count != "all" and count > len(images):
        raise UserError(
            params.at("datasets.*.images"),
            f"found {count}",
            expected=f"at most {len(images)}, those of {source}, or all",
        )
    shuffled = sorted(images, key=lambda image: stream_seed(seed, "imagenet", "turn", image.file.name))
    seen: Counter[str] = Counter()
    turns: dict[Labelled, int] = {}
    for image in shuffled:
        turns[image] = seen[image.wnid]
        seen[image.wnid] += 1
    return sorted(shuffled, key=turns.__getitem__)[: None if count == "all" else count]


def _boxes(folder: Path, image: Path) -> list[Box]:
    """Return the boxes of one image, which its file counts on the image as it is stored."""
    size, orientation = read_header(image)
    file = folder / f"{image.stem}.xml"
    boxes = read_boxes(file, size, first=0)
    if not boxes:
        raise UserError(file, "found no box", expected="at least one per image, or `boxes: false`, to do without")
    return [upright(box, size, orientation) for box in boxes]


DATASET = Dataset(Settings, load, missing)
