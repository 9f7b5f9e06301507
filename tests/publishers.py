"""Small datasets in their publishers' own formats, unpacked; `tests.packing` makes archives of them.

``PUBLISHERS[name](folder, per_class, side)`` writes all classes of a dataset with its annotations, and returns the
number of images. The class of an image is the colour of its background; on it lies one object, whose box `object_box`
knows.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.io
from PIL import Image

Size = tuple[int, int]
Edges = tuple[int, int, int, int]
"""Left, top, right and bottom edge of a box in pixels."""

SPLITS = ("train", "test", "train", "validation", "train")
"""Of the images of each class in turn, where the publisher has three; else those for validation train too."""
LEVELS = np.array(np.meshgrid(*[np.linspace(0, 255, 6)] * 3)).reshape(3, -1).T
COLOURS = LEVELS[np.linalg.norm(255 - LEVELS - (0, 0, 254), axis=1) > 110]
"""A class's background; objects have its complement, which must not be the blue that Oxford's segmentations use."""
CALTECH_FOLDERS = {
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
    "airplanes": "Airplanes_Side_2",
}
CALTECH_CLASSES = sorted([*CALTECH_FOLDERS, *(f"animal_{number:02d}" for number in range(97))])
EUROSAT_CLASSES = [
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
]
CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CUB_CLASSES = [f"{number:03d}.Bird_{number}" for number in range(1, 201)]
IMAGENET_CLASSES = ["n01440764", "n01882714", "n02123597", "n03594945", "n07920052"]
"""tench, koala, Siamese cat, jeep and espresso; their numbers are not consecutive."""
KIT_ORDER = [3, 0, 4, 2, 1]
"""How ImageNet's development kit numbers them, from 1."""


def split(index: int, validation: bool) -> str:
    """Return the publisher's split of the image at a position in its class."""
    name = SPLITS[index % len(SPLITS)]
    return name if validation or name != "validation" else "train"


def image_size(index: int, side: int) -> Size:
    """Return width and height: wider than high, so that mistaken axes are found."""
    return side + 4 + 3 * (index % 3), side


def object_box(label: int, index: int, size: Size) -> Edges:
    """Return the object's edges."""
    rng = np.random.default_rng([label, index])
    width, height = size[0] // 2 - 3, size[1] // 3 + 1
    left, top = (int(rng.integers(1, end - length)) for end, length in zip(size, (width, height), strict=True))
    return left, top, left + width, top + height


def object_mask(label: int, index: int, size: Size) -> np.ndarray:
    """Return the object's mask, bool (H, W)."""
    left, top, right, bottom = object_box(label, index, size)
    mask = np.zeros(size[::-1], bool)
    mask[top:bottom, left:right] = True
    return mask


def picture(label: int, index: int, size: Size) -> np.ndarray:
    """Return one image, uint8 (H, W, 3)."""
    mask = object_mask(label, index, size)[..., None]
    noise = np.random.default_rng([label, index, 1]).uniform(-8, 8, (*size[::-1], 3))
    return (np.where(mask, 255 - COLOURS[label], COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)


def _save(pixels: np.ndarray, file: Path, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def caltech101(folder: Path, per_class: int = 5, side: int = 32) -> int:
    for label, name in enumerate(CALTECH_CLASSES):
        annotations = folder / "Annotations" / CALTECH_FOLDERS.get(name, name)
        annotations.mkdir(parents=True)
        for index in range(per_class):
            size = image_size(index, side)
            _save(picture(label, index, size), folder / "101_ObjectCategories" / name / f"image_{index + 1:04d}.jpg")
            left, top, right, bottom = object_box(label, index, size)
            # The outline runs along the pixels' edges; the file's origin is the middle of the box's first pixel.
            x, y = right - left - 0.5, bottom - top - 0.5
            scipy.io.savemat(
                annotations / f"annotation_{index + 1:04d}.mat",
                {
                    "box_coord": np.array([[top + 1, bottom, left + 1, right]], np.uint16),
                    "obj_contour": np.array([[-0.5, x, x, -0.5, -0.5], [-0.5, -0.5, y, y, -0.5]]),
                },
            )
    background = folder / "101_ObjectCategories" / "BACKGROUND_Google"
    _save(picture(0, 0, (side, side)), background / "image_0001.jpg")
    (background / "tmp").write_text("left behind")
    return per_class * len(CALTECH_CLASSES)


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did, whose strings are both."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, text: str | bytes) -> None:
        encoded = text.encode("latin1") if isinstance(text, str) else text
        self.write(b"T" + struct.pack("<i", len(encoded)) + encoded)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def write_pickle(content: Any, file: Path) -> None:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    file.write_bytes(buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def cifar10(folder: Path, per_class: int = 5, side: int = 32) -> int:
    """Write the batches; their pictures always have 32 by 32 pixels. Batch by batch, the classes come in turn."""
    root = folder / "cifar-10-batches-py"
    root.mkdir(parents=True)
    batches: dict[str, list[tuple[int, int]]] = {f"data_batch_{n}": [] for n in range(1, 6)} | {"test_batch": []}
    for index in range(per_class):
        name = "test_batch" if split(index, validation=False) == "test" else f"data_batch_{index % 5 + 1}"
        batches[name] += [(label, index) for label in range(10)]
    for name, members in batches.items():
        pixels = np.array([picture(*member, (32, 32)) for member in members], np.uint8).reshape(-1, 32, 32, 3)
        write_pickle(
            {
                "batch_label": name,
                "labels": [label for label, _ in members],
                "data": pixels.transpose(0, 3, 1, 2).reshape(-1, 3072),
                "filenames": [f"{CIFAR_CLASSES[label]}_s_{index:06d}.png" for label, index in members],
            },
            root / name,
        )
    write_pickle({"num_cases_per_batch": 10000, "label_names": CIFAR_CLASSES, "num_vis": 3072}, root / "batches.meta")
    (root / "readme.html").write_text("<html></html>")
    return 10 * per_class


def cub200(folder: Path, per_class: int = 5, side: int = 32) -> int:
    root = folder / "CUB_200_2011"
    lists: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    }
    for number in range(len(CUB_CLASSES) * per_class):
        label, index = divmod(number, per_class)
        size = image_size(index, side)
        path = f"{CUB_CLASSES[label]}/Bird_{index:04d}_{number}.jpg"
        _save(picture(label, index, size), root / "images" / path)
        # Two of five annotators went a pixel further than the others.
        inside = object_mask(label, index, size)
        wide = inside | np.roll(inside, 1, axis=0) | np.roll(inside, -1, axis=1)
        shares = np.where(inside, 153 + 51 * (index % 2), 102 * wide)
        _save(shares.astype(np.uint8), (folder / "segmentations" / path).with_suffix(".png"))
        left, top, right, bottom = object_box(label, index, size)
        rows = (
            path,
            label + 1,
            int(split(index, validation=False) == "train"),
            f"{left:.1f} {top:.1f} {right - left:.1f} {bottom - top:.1f}",
        )
        for name, value in zip(lists, rows, strict=True):
            lists[name].append(f"{number + 1} {value}\n")
    lists["classes"] = [f"{number} {name}\n" for number, name in enumerate(CUB_CLASSES, 1)]
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("".join(lines))
    return per_class * len(CUB_CLASSES)


def eurosat(folder: Path, per_class: int = 5, side: int = 32) -> int:
    for label, name in enumerate(EUROSAT_CLASSES):
        for index in range(per_class):
            _save(picture(label, index, (side, side)), folder / "2750" / name / f"{name}_{index + 1}.jpg")
    return per_class * len(EUROSAT_CLASSES)


def oxford_members(per_class: int) -> list[tuple[int, int]]:
    """Return class and position in it of each image: unlike others, this publisher's do not come class by class."""
    shuffled = np.random.default_rng(102).permutation(102 * per_class).tolist()
    return [divmod(number, per_class) for number in shuffled]


def oxford102(folder: Path, per_class: int = 5, side: int = 32) -> int:
    members = oxford_members(per_class)
    for number, (label, index) in enumerate(members, 1):
        size = image_size(index, side)
        pixels, mask = picture(label, index, size), object_mask(label, index, size)
        _save(pixels, folder / "jpg" / f"image_{number:05d}.jpg")
        segmented = np.where(mask[..., None], pixels, np.array([0, 0, 254], np.uint8))
        _save(segmented, folder / "segmim" / f"segmim_{number:05d}.jpg", quality=95, subsampling=0)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([[label + 1 for label, _ in members]], np.uint8)})
    splits = np.array([split(index, validation=True) for _, index in members])
    numbers = {
        key: np.uint16(np.flatnonzero(splits == name)[None] + 1)
        for key, name in {"trnid": "train", "valid": "validation", "tstid": "test"}.items()
    }
    scipy.io.savemat(folder / "setid.mat", numbers)
    return len(members)


def imagenet_members(per_class: int) -> list[tuple[int, int]]:
    """Return class (position in `IMAGENET_CLASSES`) and position in it of each image, in the order of their numbers."""
    shuffled = np.random.default_rng(1000).permutation(len(IMAGENET_CLASSES) * per_class).tolist()
    return [divmod(number, per_class) for number in shuffled]


def imagenet(folder: Path, per_class: int = 5, side: int = 32) -> int:
    """Write validation images, all in one folder, with development kit and boxes; there are few classes."""
    members = imagenet_members(per_class)
    for number, (label, index) in enumerate(members, 1):
        name, size = f"ILSVRC2012_val_{number:08d}", image_size(index, side)
        _save(picture(label, index, size), folder / "ILSVRC2012_img_val" / f"{name}.JPEG")
        wnid, edges = IMAGENET_CLASSES[label], object_box(label, index, size)
        box = "".join(
            f"<{edge}>{at}</{edge}>" for edge, at in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
        )
        annotation = folder / "Annotations/CLS-LOC/val" / f"{name}.xml"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_text(
            f"<annotation><folder>val</folder><filename>{name}</filename><size><width>{size[0]}</width>"
            f"<height>{size[1]}</height><depth>3</depth></size><object><name>{wnid}</name><bndbox>{box}</bndbox></object>"
            "</annotation>"
        )
    kit = folder / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    lines = [f"{KIT_ORDER.index(label) + 1}\n" for label, _ in members]
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(lines))
    fields = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    synsets = [
        (number, IMAGENET_CLASSES[label], f"thing {label}, object", "a thing", 0, np.zeros(0), 0, 1300)
        for number, label in enumerate(KIT_ORDER, 1)
    ]
    synsets.append((len(synsets) + 1, "n00001740", "entity", "that which is", 2, np.array([1, 2]), 9, 0))
    table = np.array(synsets, dtype=[(field, object) for field in fields])[:, None]
    scipy.io.savemat(kit / "meta.mat", {"synsets": table})
    return len(members)


PUBLISHERS: dict[str, Callable[..., int]] = {
    "caltech101": caltech101,
    "cifar10": cifar10,
    "cub200": cub200,
    "eurosat": eurosat,
    "oxford102": oxford102,
}
"""Those who publish archives that anyone may download."""
FOLDERS: dict[str, Callable[..., int]] = {"imagenet": imagenet}
"""Those whose files the user has to place."""
