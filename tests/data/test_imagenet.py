"""ImageNet's validation images: each layout, both sources of labels, boxes, and any part of it."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torchvision.datasets.imagenet as theirs
from PIL import ExifTags, Image, ImageOps

from pipeline.core import suites, tables
from pipeline.core.errors import UserError
from pipeline.data import image_files
from pipeline.data.dataset import Box, Collection
from pipeline.data.datasets import imagenet
from pipeline.data.ground_truth import upright
from pipeline.data.imagenet_classes import imagenet_classes
from pipeline.data.prepared import IMAGES
from stages import prepare
from tests import publishers
from tests.data.published import changed
from tests.publishers import IMAGENET_CLASSES, image_size, imagenet_members, object_box

PER_CLASS, SIDE = 5, 32
COUNT = PER_CLASS * len(IMAGENET_CLASSES)
KIT, FLAT, XML = "ILSVRC2012_devkit_t12/data", "ILSVRC2012_img_val", "Annotations/CLS-LOC/val"
TRUTH = f"{KIT}/ILSVRC2012_validation_ground_truth.txt"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset as the publisher's archives unpack; not to be changed."""
    root = tmp_path_factory.mktemp("imagenet") / "published"
    assert publishers.imagenet(root, PER_CLASS, SIDE) == COUNT
    return root


@pytest.fixture
def copy(tree: Path, tmp_path: Path) -> Path:
    return changed(tree, tmp_path)


def load(folder: Path, seed: int = 0, **options: Any) -> Collection:
    raw = {
        "loader": "imagenet",
        "source": "requirements.lock",
        "image_size": 32,
        "folder": str(folder),
        "labels": "devkit",
        "boxes": True,
        "images": "all",
    }
    return imagenet.load(imagenet.Settings.model_validate(raw | options), seed)


def refused(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        list(load(folder, **options).images)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def number_of(name: str) -> int:
    return int(name.removeprefix("ILSVRC2012_val_").removesuffix(".JPEG"))


def in_folders(root: Path) -> Path:
    """Move the images into one folder per class; return the folder of these."""
    for number, (label, _) in enumerate(imagenet_members(PER_CLASS), 1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (root / "val" / IMAGENET_CLASSES[label]).mkdir(parents=True, exist_ok=True)
        (root / FLAT / name).rename(root / "val" / IMAGENET_CLASSES[label] / name)
    (root / FLAT).rmdir()
    return root / "val"


def test_images_labels_and_boxes_are_those_of_the_publisher(tree: Path) -> None:
    collection = load(tree)
    members = imagenet_members(PER_CLASS)
    index = list(imagenet_classes())
    assert sorted(map(number_of, collection.names)) == list(range(1, COUNT + 1))
    assert collection.class_names == list(imagenet_classes().values())
    assert collection.splits == ["test"] * COUNT
    assert collection.boxes is not None
    for name, label, encoded, boxes in zip(
        collection.names, collection.labels, collection.images, collection.boxes, strict=True
    ):
        place, turn = members[number_of(name) - 1]
        assert index[label] == IMAGENET_CLASSES[place]
        assert encoded == (tree / FLAT / name).read_bytes()
        assert boxes == [Box(*map(float, object_box(place, turn, image_size(turn, SIDE))))]
    assert load(tree, boxes=False).boxes is None


def test_torchvision_reads_the_same_labels(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as packed:
        packed.add(tree / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
    monkeypatch.setattr(theirs, "check_integrity", lambda *_: True)
    theirs.parse_devkit_archive(tmp_path)
    classes, wnids = theirs.load_meta_file(tmp_path)
    assert sorted(classes) == IMAGENET_CLASSES, "the group is no class"
    collection = load(tree)
    index = list(imagenet_classes())
    assert [index[label] for label in collection.labels] == [wnids[number_of(name) - 1] for name in collection.names]


def same(one: Collection, other: Collection) -> None:
    assert one.names == other.names
    assert one.labels.tolist() == other.labels.tolist()
    assert one.boxes == other.boxes
    assert list(one.images) == list(other.images)


@pytest.mark.parametrize(
    "layout", ["devkit", "folders", "devkit and folders", "in the folder itself", "as Kaggle has it"]
)
def test_every_layout_gives_the_same(layout: str, tree: Path, copy: Path) -> None:
    if "folders" in layout:
        in_folders(copy)
    if layout == "in the folder itself":
        for part in (FLAT, KIT, XML):
            for file in (copy / part).iterdir():
                file.rename(copy / file.name)
    if layout == "as Kaggle has it":
        (copy / "ILSVRC/Data/CLS-LOC").mkdir(parents=True)
        (copy / FLAT).rename(copy / "ILSVRC/Data/CLS-LOC/val")
        (copy / "Annotations").rename(copy / "ILSVRC/Annotations")
    if layout == "folders":
        shutil.rmtree(copy / "ILSVRC2012_devkit_t12")
    same(load(copy, labels="folders" if layout == "folders" else "devkit"), load(tree))


@pytest.mark.parametrize("labels", ["folders", "devkit"])
def test_a_class_index_file_says_the_classes(labels: str, tree: Path, copy: Path) -> None:
    in_folders(copy)
    order = [2, 4, 0, 1, 3]  # not that of the WordNet IDs
    content = {str(number): [IMAGENET_CLASSES[label], f"thing_{label}"] for number, label in enumerate(order)}
    (copy / "imagenet_class_index.json").write_text(json.dumps(content))
    collection, before = load(copy, labels=labels), load(tree)
    assert collection.class_names == ["thing_2", "thing_4", "thing_0", "thing_1", "thing_3"]
    assert collection.names == before.names
    wnids = list(imagenet_classes())
    assert [IMAGENET_CLASSES[order[label]] for label in collection.labels] == [wnids[label] for label in before.labels]


def test_a_part_is_spread_over_the_classes_and_grows(tree: Path) -> None:
    whole = load(tree)
    assert whole.boxes is not None
    for count in (1, 3, 5, 7, 12, COUNT):
        part = load(tree, images=count)
        assert part.names == whole.names[:count], "images keep their numbers"
        assert part.boxes == whole.boxes[:count]
        assert list(part.images) == list(whole.images)[:count]
        counts = Counter(part.labels.tolist())
        assert len(counts) == min(count, 5)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert load(tree, seed=1, images=7).names != whole.names[:7]
    assert load(tree, seed=0, images=7).names == whole.names[:7]


def test_only_the_images_that_were_drawn_are_opened(tree: Path, copy: Path) -> None:
    drawn = load(tree, images=6).names
    for file in (copy / FLAT).iterdir():
        if file.name not in drawn:
            file.write_bytes(b"not opened")
            (copy / XML / f"{file.stem}.xml").unlink()
    part = load(copy, images=6)
    assert part.names == drawn
    assert len(list(part.images)) == 6
    # Nor are those until they are asked for, but for their sizes.
    file = copy / FLAT / drawn[3]
    file.write_bytes(file.read_bytes()[:-200])
    part = load(copy, images=6)
    assert len(part.images[:3]) == len(list(part.images[:3])) == 3
    with pytest.raises(UserError, match=rf"{drawn[3]}: not a readable image \("):
        part.images[3]


def test_the_table_of_images_is_written_as_a_stream(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 400_000
    for file in (copy / FLAT).iterdir():  # zeros after its end do not harm a JPEG file
        file.write_bytes(file.read_bytes().ljust(size, b"\0"))
    monkeypatch.setattr(prepare, "PART", 2)
    monkeypatch.setattr(tables, "ROW_GROUP", 2)
    monkeypatch.setattr(suites, "run_suite", lambda *_: {})  # tests/core/test_tables.py has its memory
    monkeypatch.setattr(image_files, "threads", lambda: 2)
    collection = load(copy)
    tracemalloc.start()
    tables.write_all([(IMAGES, tmp_path / "images.parquet", prepare.image_parts(collection))])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Two parts, and what the threads have read ahead.
    assert 2 * size < peak < 10 * size + 1_000_000 < COUNT * size
    images = pd.read_parquet(tmp_path / "images.parquet")
    assert images["image"].tolist() == list(range(COUNT))
    assert images["encoded"].tolist() == list(collection.images)
    tables.write(IMAGES, tmp_path / "whole.parquet", images)
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "images.parquet").read_bytes()


# What is wrong

NAME = "ILSVRC2012_val_00000007"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (FLAT, "images (ILSVRC2012_val_*.JPEG)"),
        (KIT, "labels (ILSVRC2012_validation_ground_truth.txt)"),
        (XML, "boxes (ILSVRC2012_val_*.xml)"),
    ],
)
def test_what_is_not_there_is_named(place: str, what: str, copy: Path) -> None:
    shutil.rmtree(copy / place)
    assert refused(copy) == f"{copy}: {what}: found none; allowed: one of the layouts of docs/imagenet.md"
    settings = imagenet.Settings(
        loader="imagenet", source="", image_size=32, folder=str(copy), labels="devkit", boxes=True, images="all"
    )
    assert imagenet.missing(settings) == [f"{copy}: {what}, from ImageNet's publisher"]
    assert imagenet.missing(settings.model_copy(update={"folder": str(copy / "nowhere")})) != []
    if place == XML:
        assert load(copy, boxes=False).boxes is None


@pytest.mark.parametrize("boxes", [True, False])
def test_a_missing_image_is_named(boxes: bool, copy: Path) -> None:
    file = copy / FLAT / f"{NAME}.JPEG"
    file.unlink()
    assert refused(copy, boxes=boxes) == f"{file}: there is no such file; is the copy incomplete?"


def test_an_image_that_is_cut_short_is_named(copy: Path) -> None:
    file = copy / FLAT / f"{NAME}.JPEG"
    file.write_bytes(file.read_bytes()[:-100])
    assert refused(copy).startswith(f"{file}: not a readable image (image file is truncated")
    file.write_bytes(b"")
    assert refused(copy).startswith(f"{file}: not a readable image (cannot identify image file")


def test_a_missing_file_of_boxes_is_named(copy: Path) -> None:
    file = copy / XML / f"{NAME}.xml"
    file.unlink()
    assert refused(copy) == f"{file}: there is no such file; is the copy incomplete?"


WRONG_BOXES = [
    ("<object>.*</object>", "", "found no box; allowed: at least one per image, or `boxes: false`, to do without"),
    (
        "<xmin>.*</ymax>",
        "<xmin>90</xmin><ymin>1</ymin><xmax>95</xmax><ymax>9</ymax>",
        "object 1: found a box from (90, 1) to (95, 9); allowed: one on its image of {0} by {1} pixels",
    ),
    ("<xmin>.*</xmin>", "<xmin>left</xmin>", "bndbox: xmin: found 'left'; allowed: a number of pixels"),
    ("<width>.*</width>", "<width>500</width>", "size: found 500 by {1} pixels; its picture has {0} by {1}"),
    ("<bndbox>.*</bndbox>", "", "object 1: found no <bndbox>; allowed: one per object"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG_BOXES)
def test_boxes_that_cannot_be_used_are_named(old: str, new: str, message: str, copy: Path) -> None:
    file = copy / XML / f"{NAME}.xml"
    file.write_text(re.sub(old, new, file.read_text()))
    size = Image.open(copy / FLAT / f"{NAME}.JPEG").size
    assert refused(copy) == f"{file}: {message.format(*size)}"


def test_a_box_beyond_the_edge_is_cut(copy: Path) -> None:
    file = copy / XML / f"{NAME}.xml"
    edges = "<xmin>-2</xmin><ymin>0</ymin><xmax>300</xmax><ymax>9</ymax>"
    file.write_text(re.sub("<xmin>.*</ymax>", edges, file.read_text()))
    collection = load(copy)
    width, _ = Image.open(copy / FLAT / f"{NAME}.JPEG").size
    assert collection.boxes is not None
    assert collection.boxes[collection.names.index(f"{NAME}.JPEG")] == [Box(0, 0, width, 9)]


@pytest.mark.parametrize(("line", "found"), [("6", "'6'"), ("0", "'0'"), ("3 4", "'3 4'"), ("", "''"), ("²", "'²'")])
def test_a_label_that_the_kit_does_not_know(line: str, found: str, copy: Path) -> None:
    lines = (copy / TRUTH).read_text().splitlines()
    lines[3] = line
    (copy / TRUTH).write_text("\n".join(lines), encoding="utf-8")
    assert refused(copy) == (
        f"{copy / TRUTH}: line 4: found {found}; allowed: the number of a class in meta.mat, 1 to 5"
    )


def test_a_kit_that_is_damaged(copy: Path) -> None:
    (copy / TRUTH).write_text("")
    assert refused(copy) == f"{copy / TRUTH}: found no lines; allowed: one per image"
    meta = copy / KIT / "meta.mat"
    meta.write_bytes(meta.read_bytes()[:-100])
    assert refused(copy).startswith(f"{meta}: not the kit's list of classes (")
    meta.unlink()
    assert refused(copy) == f"{meta}: there is no such file; is the copy incomplete?"


def test_a_class_that_is_none_of_the_networks(copy: Path) -> None:
    folder = in_folders(copy)
    (folder / "n02123597").rename(folder / "n99999999")
    index = copy / "imagenet_class_index.json"
    message = refused(copy, labels="folders")
    assert message.startswith(f"{folder}: ILSVRC2012_val_")
    assert message.endswith(
        f".JPEG: found the class n99999999; allowed: the 1000 of ImageNet's challenge, unless {index} says others"
    )
    index.write_text('{"0": ["n99999999", "a"], "1": ["n01440764", "b"]}')
    assert refused(copy, labels="folders").endswith(f".JPEG: found the class n01882714; allowed: {index}")


WRONG_INDEX = {
    "{": "not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
    "[1, 2]": "found no classes; allowed: a mapping of at least 2",
    '{"0": ["n01440764", "tench"]}': "found 1 classes; allowed: a mapping of at least 2",
    '{"0": ["n01440764", "tench"], "2": ["n01443537", "goldfish"]}': (
        '"1": found null; allowed: a pair such as ["n01440764", "tench"], for each of 0 to 1'
    ),
    '{"0": ["n01440764", "tench"], "1": "goldfish"}': (
        '"1": found "goldfish"; allowed: a pair such as ["n01440764", "tench"], for each of 0 to 1'
    ),
    '{"0": ["n01440764", "tench"], "1": ["goldfish", "n01443537"]}': (
        '"1": found ["goldfish", "n01443537"]; allowed: a pair such as ["n01440764", "tench"], for each of 0 to 1'
    ),
    '{"0": ["n01440764", "tench"], "1": ["n01440764", "goldfish"]}': (
        '"1": found n01440764 a second time; allowed: each class once'
    ),
}


@pytest.mark.parametrize("content", WRONG_INDEX)
def test_a_class_index_file_that_is_none(content: str, copy: Path) -> None:
    (copy / "imagenet_class_index.json").write_text(content)
    assert refused(copy) == f"{copy / 'imagenet_class_index.json'}: {WRONG_INDEX[content]}"


def test_settings_that_do_not_fit_what_is_there(tree: Path, copy: Path) -> None:
    assert refused(tree, images=26) == (
        f"params.yaml: datasets.*.images: found 26; allowed: at most 25, those of {tree / TRUTH}, or all"
    )
    assert refused(tree, labels="folders") == (
        f"{tree / FLAT}: found images that are not in folders; allowed: one folder per class, called by its WordNet ID "
        "(n01440764), which labels: folders needs; params.yaml: datasets.*.labels can say devkit instead"
    )
    folder = in_folders(copy)
    first = next(folder.glob("n01440764/*.JPEG"))
    second = folder / "n02123597" / first.name
    shutil.copy(first, second)
    assert refused(copy, labels="folders") == (
        f"{second}: found a second time, the first is {first}; allowed: each image once"
    )


# Images that are stored turned


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_their_image(orientation: int) -> None:
    pixels = np.zeros((20, 30), np.uint8)
    pixels[4:9, 3:14] = 255
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    rows, columns = np.nonzero(np.asarray(ImageOps.exif_transpose(image)))
    expected = Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert upright(Box(3, 4, 14, 9), (30, 20), orientation) == expected


def test_an_image_that_is_stored_turned_has_its_boxes_turned(copy: Path) -> None:
    file = copy / FLAT / f"{NAME}.JPEG"
    image = Image.open(file)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(file, exif=exif)
    label, turn = imagenet_members(PER_CLASS)[6]
    left, top, right, bottom = object_box(label, turn, image.size)
    collection = load(copy)
    assert collection.boxes is not None
    found = collection.boxes[collection.names.index(f"{NAME}.JPEG")]
    assert found == [Box(image.height - bottom, left, image.height - top, right)]
