"""The user's own pictures: ``source/class name/any name.jpg``, one folder per class, in any of the usual formats.

The user may name the split (`pipeline.data.given_splits`): with ``split.test: folders``, pictures lie in
``source/train/class name/``, ``source/test/class name/`` and perhaps ``source/validation/class name/``; with
``split.test: table``, the file ``source/splits.csv`` lists the split of each.

Boxes round their objects may be given as ImageNet gives them, in files of Pascal VOC's format:
``boxes/class name/any name.xml``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.core.params import PathText
from pipeline.data.dataset import Box, Collection, Dataset, DatasetSettings, SplitSettings, check_names
from pipeline.data.decode import open_image
from pipeline.data.given_splits import read_split_table, split_folders
from pipeline.data.image_files import read_file
from pipeline.data.prepared import SPLIT_NAMES
from pipeline.data.voc import read_boxes

SUFFIXES = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of files that are pictures; what else is there is named as skipped."""


class Settings(DatasetSettings):
    """Where the boxes are, and how the pictures below ``source`` are split.

    Attributes:
        boxes: the folder of the files with boxes, ``source`` itself or one in it; None if there are none.
        split: fractions, or ``folders`` or ``table`` for a test split that is given.
    """

    boxes: PathText | None
    split: SplitSettings


def load(settings: Settings, seed: int) -> Collection:
    """Read every picture below ``source``; folders in alphabetical order are the classes.

    Raises:
        UserError: ``source`` or ``boxes`` is not a folder, there are fewer than two classes, a class has no picture, a
            given split is incomplete, or a picture or a file with boxes cannot be read; the message names the folder
            or file.
    """
    root = Path(settings.source)
    if not root.is_dir():
        raise UserError(
            params.at("datasets.*.source"),
            f"found {settings.source!r}, which is not a folder",
            expected="a folder with one folder of pictures per class",
        )
    boxes = None if settings.boxes is None else _boxes_folder(root, settings.boxes)
    given = settings.split.test
    parents = split_folders(root) if given == "folders" else {"": root}
    folders = [
        folder
        for parent in parents.values()
        for folder in sorted(parent.iterdir())
        if folder.is_dir() and not folder.name.startswith(".") and folder != boxes
    ]
    class_names = sorted({folder.name for folder in folders})
    if len(class_names) < 2:
        raise UserError(root, f"found {len(class_names)} class folder(s)", expected="at least 2")
    files: list[Path] = []
    labels: list[int] = []
    skipped: list[Path] = []
    if given == "folders":
        beside = sorted(file for file in root.iterdir() if not file.name.startswith("."))
        skipped = [file for file in beside if file not in (*parents.values(), boxes)]
    for folder in folders:
        visible = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
        found = [file for file in visible if file.is_file() and file.suffix.lower() in SUFFIXES]
        if not found:
            hint = "if the folders are splits, split.test: folders" if folder.name in SPLIT_NAMES else None
            raise UserError(folder, "found no picture", expected=f"files ending in {', '.join(SUFFIXES)}", fix=hint)
        files += found
        labels += [class_names.index(folder.name)] * len(found)
        skipped += [file for file in visible if file not in found and file.suffix != ".xml"]
    if skipped:
        named = ", ".join(repr(file.relative_to(root).as_posix()) for file in skipped[:5])
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        print(f"note: {root}: skipped what is not a picture: {named}{more}", file=sys.stderr)
    paths = [file.relative_to(root) for file in files]
    names = [path.as_posix() for path in paths]
    check_names(class_names, "class", str(root))
    check_names(names, "image", str(root))
    splits = None
    if given == "folders":
        splits = [path.parts[0] for path in paths]
    elif given == "table":
        splits = read_split_table(root, names)
    images = [read_file(file) for file in files]
    sizes = [open_image(encoded, str(file)).size for file, encoded in zip(files, images, strict=True)]
    return Collection(
        class_names=class_names,
        names=names,
        labels=np.array(labels, dtype=np.int64),
        images=images,
        boxes=None if boxes is None else _boxes(boxes, paths, sizes),
        splits=splits,
    )


def _boxes_folder(root: Path, boxes: str) -> Path:
    """Return the folder of the boxes; DVC watches ``source``, so it must lie there."""
    folder = Path(boxes)
    if not folder.resolve().is_relative_to(root.resolve()):  # whatever `..` and links lead to
        raise UserError(params.at("datasets.*.boxes"), f"found {boxes!r}", expected=f"{root}, or a folder in it")
    return folder


def _boxes(root: Path, paths: list[Path], sizes: list[tuple[int, int]]) -> list[list[Box]]:
    """Return the boxes of each picture, none for a picture without a file."""
    if not root.is_dir():
        raise UserError(
            params.at("datasets.*.boxes"),
            f"found {str(root)!r}, which is not a folder",
            expected="a folder with one folder of .xml files per class, or null",
        )
    files = [root / path.with_suffix(".xml") for path in paths]
    if not any(file.is_file() for file in files):
        raise UserError(root, "found no file of any picture", expected=f"{paths[0].with_suffix('.xml')} and the like")
    return [read_boxes(file, size, first=1) if file.is_file() else [] for file, size in zip(files, sizes, strict=True)]


def missing(settings: Settings) -> list[str]:
    """Say which folders are not here."""
    folders = [settings.source] if settings.boxes is None else [settings.source, settings.boxes]
    return [f"{folder}, your own" for folder in folders if not Path(folder).is_dir()]


DATASET = Dataset(Settings, load, missing)
