"""What lacks in a published dataset, or does not fit together, is named as it lies in folder or archive."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from tests import publishers
from tests.data.published import CLASSES, COUNTS, SIDE, accept, changed, load, refused
from tests.packing import ARCHIVES, pack
from tests.publishers import PUBLISHERS, image_size, write_pickle

pytestmark = pytest.mark.usefixtures("scratch")


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_wrong_number_of_images(name: str, trees: dict[str, Path]) -> None:
    message = refused(name, trees[name], images=9999)
    assert message.startswith(str(trees[name]))
    assert message.endswith(
        f": found {COUNTS[name]} images; allowed: 9999, as params.yaml: datasets.*.images says; is the copy incomplete?"
    )


def remove_class(name: str, tree: Path) -> Path:
    """Take one class away; return what the message must name."""
    if name == "cifar10":
        write_pickle({"label_names": publishers.CIFAR_CLASSES[:9]}, tree / "cifar-10-batches-py" / "batches.meta")
        return tree / "cifar-10-batches-py" / "batches.meta"
    if name == "cub200":
        file = tree / "CUB_200_2011" / "classes.txt"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
        return file
    if name == "oxford102":
        labels = scipy.io.loadmat(tree / "imagelabels.mat")["labels"]
        scipy.io.savemat(tree / "imagelabels.mat", {"labels": np.minimum(labels, 101)})
        return tree / "imagelabels.mat"
    root, folder = ("101_ObjectCategories", "animal_07") if name == "caltech101" else ("2750", "Highway")
    shutil.rmtree(tree / root / folder)
    return tree / root


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_wrong_number_of_classes(name: str, trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees[name], tmp_path)
    place = remove_class(name, tree)
    assert refused(name, tree) == (
        f"{place}: found {CLASSES[name] - 1} classes; allowed: {CLASSES[name]}; "
        "is the copy incomplete, or another dataset?"
    )


FILES = {
    "caltech101": ["Annotations/Faces_2/annotation_0002.mat"],
    "cifar10": ["cifar-10-batches-py/data_batch_3", "cifar-10-batches-py/batches.meta"],
    "cub200": [
        "CUB_200_2011/images/007.Bird_7/Bird_0001_13.jpg",
        "segmentations/007.Bird_7/Bird_0001_13.png",
        "CUB_200_2011/bounding_boxes.txt",
    ],
    "eurosat": [],
    "oxford102": ["jpg/image_00010.jpg", "segmim/segmim_00010.jpg"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in FILES.items() for file in files])
def test_a_missing_file_is_named_as_it_lies_in_folder_or_archive(
    name: str, file: str, trees: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = changed(trees[name], tmp_path)
    (tree / file).unlink()
    assert refused(name, tree) == f"{tree / file}: there is no such file; is the copy incomplete?"
    packed = tmp_path / "packed"
    pack(name, tree, packed)
    accept(name, packed, monkeypatch)
    archive = next(archive for archive, held in ARCHIVES[name].items() if file.split("/")[0] in held)
    assert refused(name, packed) == f"{packed / archive / file}: there is no such file; is the copy incomplete?"


PICTURES = {
    "caltech101": ["101_ObjectCategories/Faces/image_0002.jpg"],
    "cub200": ["CUB_200_2011/images/007.Bird_7/Bird_0001_13.jpg", "segmentations/007.Bird_7/Bird_0001_13.png"],
    "eurosat": ["2750/River/River_4.jpg"],
    "oxford102": ["jpg/image_00010.jpg", "segmim/segmim_00010.jpg"],
}


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in PICTURES.items() for file in files])
def test_a_picture_that_does_not_decode_is_named(name: str, file: str, trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees[name], tmp_path)
    whole = (tree / file).read_bytes()
    (tree / file).write_bytes(whole[: len(whole) // 2])
    assert refused(name, tree).startswith(f"{tree / file}: not a readable image (")


@pytest.mark.parametrize(("name", "file"), [(name, files[-1]) for name, files in PICTURES.items() if len(files) == 2])
def test_a_mask_of_another_size_is_named(name: str, file: str, trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees[name], tmp_path)
    Image.new("RGB", (20, 10)).save(tree / file)
    assert re.fullmatch(
        rf"{re.escape(str(tree / file))}: found a mask of 20 by 10 pixels; allowed: \d+ by 32, as its image "
        r"\(or `masks: false`, to do without\)",
        refused(name, tree),
    )


def test_a_mask_without_an_object_is_none(trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["cub200"], tmp_path)
    grey = np.full((SIDE, image_size(1, SIDE)[0]), 102, np.uint8)  # two of five annotators
    Image.fromarray(grey).save(tree / "segmentations/007.Bird_7/Bird_0001_13.png")
    masks = load("cub200", tree).masks
    assert masks is not None
    assert [number for number, mask in enumerate(masks) if mask is None] == [13]
