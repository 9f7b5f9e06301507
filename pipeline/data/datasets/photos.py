"""Photographs of ImageNet's classes that packages carry: 23 in 22 classes, for networks with these 1,000 classes.

Sources: J. Rauber et al., Foolbox (the package ``foolbox``), 20 photographs of 512 by 512 pixels; S. van der Walt et
al., scikit-image: image processing in Python, PeerJ 2:e453, 2014, three photographs that are free to show.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.packages import installed_files, is_installed
from pipeline.data.dataset import Collection, Dataset, DatasetSettings
from pipeline.data.image_files import ImageFiles
from pipeline.data.imagenet_classes import imagenet_classes

FOOLBOX = "foolbox/data/imagenet_[0-9][0-9]_*.jpg"
LABEL = re.compile(r"imagenet_\d\d_(\d+)\.jpg")
"""Names of foolbox's photographs end with the number of the class."""
SCIKIT_IMAGE = {
    "skimage/data/chelsea.png": 285,  # Egyptian cat
    "skimage/data/coffee.png": 967,  # espresso
    "skimage/data/rocket.jpg": 657,  # missile
}
PACKAGES = ("foolbox", "scikit-image")


class Settings(DatasetSettings):
    """The photographs have nothing to choose: all of them test."""

    split: None = None


def missing(settings: Settings) -> list[str]:
    """Say which packages are not installed."""
    return [f"the package {one}, which `make setup` installs" for one in PACKAGES if not is_installed(one)]


def load(settings: Settings, seed: int) -> Collection:
    """Read all photographs, as they are.

    Raises:
        UserError: a package is not installed, or lacks its photographs.
    """
    photographs = {file: _label(file) for file in installed_files("foolbox", FOOLBOX)}
    for path, label in SCIKIT_IMAGE.items():
        photographs |= dict.fromkeys(installed_files("scikit-image", path), label)
    return Collection(
        class_names=list(imagenet_classes().values()),
        names=[f"{file.parent.parent.name}/{file.name}" for file in photographs],
        labels=np.array(list(photographs.values()), dtype=np.int64),
        images=list(ImageFiles(list(photographs))),
        splits=["test"] * len(photographs),
    )


def _label(file: Path) -> int:
    found = LABEL.fullmatch(file.name)
    if found is None or int(found[1]) >= len(imagenet_classes()):
        raise UserError(
            file,
            "found a photograph of no class",
            expected=f"imagenet_NN_LABEL.jpg, its label below {len(imagenet_classes())}",
        )
    return int(found[1])


DATASET = Dataset(Settings, load, missing)
