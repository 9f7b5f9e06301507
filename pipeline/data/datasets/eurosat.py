"""EuroSAT: 27,000 satellite pictures of 64 by 64 pixels in ten classes of land use; the RGB version.

Source: P. Helber, B. Bischke, A. Dengel, D. Borth, EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use
and Land Cover Classification, IEEE Journal of Selected Topics in Applied Earth Observations and Remote Sensing, 2019.
The archive is the one that torchvision downloads.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.archives import Archive, list_folders, not_here, read_images, unpacked
from pipeline.data.dataset import ArchivedSettings, Collection, Dataset

CLASSES = 10
PICTURES = "2750"
CONTENTS = {
    PICTURES: Archive(
        "EuroSAT.zip",
        "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
        "c8fa014336c82ac7804f0398fcb19387",
    )
}


class Settings(ArchivedSettings):
    """EuroSAT has only its split to choose."""


def missing(settings: Settings) -> list[str]:
    """Say which archives are not here."""
    return not_here(settings.folder, CONTENTS, below=["eurosat"])


def load(settings: Settings, seed: int) -> Collection:
    """Read all pictures, the JPEG files as they are; the ten folders are the classes.

    The publisher fixed no split and drew no ground truth.

    Raises:
        UserError: the archive, a picture, or the number of classes or pictures is not as it should be.
    """
    with unpacked(settings.folder, CONTENTS, below=["eurosat"]) as places:
        of_class = list_folders(places[PICTURES], CLASSES, settings)
        pictures = [file for files in of_class.values() for file in files]
        images, _ = read_images(pictures)
    return Collection(
        class_names=list(of_class),
        names=[f"{file.parent.name}/{file.name}" for file in pictures],
        labels=np.repeat(np.arange(CLASSES), [len(files) for files in of_class.values()]),
        images=images,
    )


DATASET = Dataset(Settings, load, missing)
