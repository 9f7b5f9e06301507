"""CIFAR-10: 60,000 pictures of 32 by 32 pixels in ten classes.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, University of Toronto, 2009. The archive
is the one that torchvision downloads.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.archives import Archive, check_classes, check_images, in_threads, not_here, unpacked
from pipeline.data.dataset import ArchivedSettings, Collection, Dataset
from pipeline.data.decode import Pixels, encode_png
from pipeline.data.image_files import read_file

CLASSES = 10
SIDE = 32
FOLDER = "cifar-10-batches-py"
CONTENTS = {
    FOLDER: Archive(
        "cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
    )
}
BATCHES = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}

_RECONSTRUCT = np.empty(0).__reduce__()[0]
ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""All that the publisher's files refer to. A pickle calls whatever it names, so others in a tampered file must not be
found; unpacked batches have no archive whose checksum could vouch for them."""


class Settings(ArchivedSettings):
    """CIFAR-10 has only its split to choose."""


def missing(settings: Settings) -> list[str]:
    """Say which archives are not here."""
    return not_here(settings.folder, CONTENTS)


def load(settings: Settings, seed: int) -> Collection:
    """Read all pictures, each as a PNG of its pixels, and the publisher's split.

    Raises:
        UserError: the archive, a batch, or the number of classes or pictures is not as it should be.
    """
    with unpacked(settings.folder, CONTENTS) as places:
        root = places[FOLDER]
        class_names = _class_names(root / "batches.meta")
        batches = {name: _batch(root / name) for name in BATCHES}
        check_images(root, sum(len(pixels) for pixels, _ in batches.values()), settings)
    images = in_threads(encode_png, (one for pixels, _ in batches.values() for one in pixels))
    return Collection(
        class_names=class_names,
        names=[f"{name}/{number:05d}" for name, (_, labels) in batches.items() for number in range(len(labels))],
        labels=np.array([label for _, labels in batches.values() for label in labels], dtype=np.int64),
        images=images,
        splits=[BATCHES[name] for name, (_, labels) in batches.items() for _ in labels],
    )


class _Unpickler(pickle.Unpickler):
    """Reads arrays, numbers, text, lists and dicts, and calls nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it refers to {module_name}.{global_name}, which no batch needs")
        return ADMITTED[module_name, global_name]


def _unpickle(file: Path) -> dict[str, Any]:
    encoded = read_file(file)
    try:
        content = _Unpickler(io.BytesIO(encoded), encoding="latin1").load()
    except Exception as error:  # damage makes the unpickler raise nearly anything
        raise UserError(file, f"not a readable batch ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(file, f"found {type(content).__name__}", expected="a dict")
    return content


def _class_names(file: Path) -> list[str]:
    names = _unpickle(file).get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file}: label_names", f"found {type(names).__name__}", expected=f"a list of {CLASSES} names")
    check_classes(file, len(names), CLASSES)
    return names


def _batch(file: Path) -> tuple[Pixels, list[int]]:
    content = _unpickle(file)
    data, labels = content.get("data"), content.get("labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * SIDE * SIDE,):
        raise UserError(f"{file}: data", "found no array of bytes", expected=f"one of N by {3 * SIDE * SIDE}")
    if not isinstance(labels, list) or len(labels) != len(data):
        found = len(labels) if isinstance(labels, list) else "no"
        raise UserError(f"{file}: labels", f"found {found} labels", expected=f"a list of {len(data)}, one per picture")
    wrong = [label for label in labels if not isinstance(label, int) or label not in range(CLASSES)]
    if wrong:
        raise UserError(f"{file}: labels", f"found {wrong[0]!r}", expected=f"0 to {CLASSES - 1}")
    # A row has all reds, then all greens, then all blues, each line by line.
    return np.ascontiguousarray(data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)), labels


DATASET = Dataset(Settings, load, missing)
