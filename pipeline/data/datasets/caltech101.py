"""Caltech-101: 8,677 pictures of objects in 101 classes, with the box and the outline of each object.

Source: F.-F. Li, M. Andreeto, M. Ranzato, P. Perona, Caltech 101, CaltechDATA, 2022 (doi:10.22002/D1.20086). The
archive is the one that torchvision downloads: a zip that holds the pictures and the annotations as archives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import StrictBool
from skimage.draw import polygon2mask

from pipeline.core.errors import UserError
from pipeline.data.archives import Archive, in_threads, list_folders, not_here, read_images, read_matrices, unpacked
from pipeline.data.dataset import ArchivedSettings, Box, Collection, Dataset
from pipeline.data.ground_truth import clip_box, encode_mask

CLASSES = 101
FAR = 1e5
"""Pixels that no point of an outline lies away from the corner of its box."""
PICTURES, ANNOTATIONS = "101_ObjectCategories", "Annotations"
NO_CLASS = "BACKGROUND_Google"
ZIP = Archive(
    "caltech-101.zip",
    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
    "3138e1922a9193bfa496528edbbc45d0",
)
CONTENTS = {PICTURES: ZIP, ANNOTATIONS: ZIP}
ANNOTATION_FOLDERS = {
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
    "airplanes": "Airplanes_Side_2",
}
"""The classes whose annotations lie in a folder of another name."""


class Settings(ArchivedSettings):
    """Whether the annotations are read: the boxes, and the outlines as masks."""

    masks: StrictBool


def _needed(settings: Settings) -> dict[str, Archive]:
    return {path: archive for path, archive in CONTENTS.items() if path == PICTURES or settings.masks}


def missing(settings: Settings) -> list[str]:
    """Say which archives are not here."""
    return not_here(settings.folder, _needed(settings), below=["caltech101", "caltech-101"])


def load(settings: Settings, seed: int) -> Collection:
    """Read all pictures, the JPEG files as they are; the folders but the background's are the classes.

    The publisher fixed no split.

    Raises:
        UserError: the archive, a file in it, or the number of classes or pictures is not as it should be.
    """
    with unpacked(settings.folder, _needed(settings), below=["caltech101", "caltech-101"]) as places:
        of_class = list_folders(places[PICTURES], CLASSES, settings, apart=NO_CLASS)
        pictures = [file for files in of_class.values() for file in files]
        images, sizes = read_images(pictures)
        annotations = []
        if settings.masks:
            files = [_annotation_file(places[ANNOTATIONS], file) for file in pictures]
            annotations = in_threads(_annotation, zip(files, sizes, strict=True))
    return Collection(
        class_names=list(of_class),
        names=[f"{file.parent.name}/{file.name}" for file in pictures],
        labels=np.repeat(np.arange(CLASSES), [len(files) for files in of_class.values()]),
        images=images,
        masks=[mask for _, mask in annotations] if settings.masks else None,
        boxes=[[box] for box, _ in annotations] if settings.masks else None,
    )


def _annotation_file(root: Path, picture: Path) -> Path:
    folder = ANNOTATION_FOLDERS.get(picture.parent.name, picture.parent.name)
    return root / folder / f"{picture.stem.replace('image', 'annotation')}.mat"


def _annotation(task: tuple[Path, tuple[int, int]]) -> tuple[Box, bytes | None]:
    """Return the box and the mask of one object.

    Its file counts pixels from 1, and has the box as top, bottom, left and right pixel, and the outline's points as
    x and y relative to the box's corner.
    """
    file, size = task
    corners, outline = read_matrices(file, ["box_coord", "obj_contour"])
    if corners.size != 4 or outline.ndim != 2 or outline.shape[0] != 2 or outline.shape[1] < 3:
        raise UserError(
            file,
            f"found box_coord of shape {corners.shape} and obj_contour of shape {outline.shape}",
            expected="4 numbers, and 2 by 3 or more",
        )
    top, bottom, left, right = corners.ravel().tolist()
    box = clip_box(Box(left - 1, top - 1, right, bottom), size, f"{file}: box_coord")
    if np.abs(outline).max() > FAR:
        raise UserError(f"{file}: obj_contour", f"found {np.abs(outline).max():g}", expected=f"pixels, at most {FAR:g}")
    rows_and_columns = outline[::-1].T + np.array([top - 1, left - 1])
    return box, encode_mask(polygon2mask(size[::-1], rows_and_columns), size, str(file))


DATASET = Dataset(Settings, load, missing)
