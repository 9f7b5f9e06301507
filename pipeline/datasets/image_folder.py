"""The user's own pictures: ``source/class name/any name.jpg|jpeg|png``, a folder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline import storage
from pipeline.datasets import Collection
from pipeline.errors import UserError
from pipeline.images import open_image
from pipeline.params import DatasetSettings, SplitSettings
from pipeline.registry import Dataset

SUFFIXES = (".jpeg", ".jpg", ".png")


class Settings(DatasetSettings):
    """How the pictures below ``source`` are split."""

    split: SplitSettings


def load(settings: Settings, seed: int) -> Collection:
    """Read every picture below ``source``; folders in alphabetical order are the classes.

    Raises:
        UserError: ``source`` is no folder, there are fewer than two classes, a class has no picture, or a picture
            cannot be decoded; the message names the folder or file.
    """
    root = Path(settings.source)
    if not root.is_dir():
        raise UserError(f"{storage.PARAMS}: datasets: source: found {settings.source!r}, which is no folder; "
                        "allowed: a folder with one folder of .jpg or .png files a class")  # fmt: skip
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if len(folders) < 2:
        raise UserError(f"{root}: found {len(folders)} class folder(s); at least 2 are needed")
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        visible = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
        found = sorted(file for file in visible if file.suffix.lower() in SUFFIXES)
        if not found:
            raise UserError(f"{folder}: found no picture; allowed: files ending in {', '.join(SUFFIXES)}")
        files += found
        labels += [label] * len(found)
    images = [_read(file) for file in files]
    for file, encoded in zip(files, images, strict=True):
        open_image(encoded, str(file))
    return Collection(
        class_names=[folder.name for folder in folders],
        names=[file.relative_to(root).as_posix() for file in files],
        labels=np.array(labels, dtype=np.int64),
        images=images,
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


DATASET = Dataset(Settings, load)
