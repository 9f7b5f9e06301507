"""The loaders of published datasets, on small ones in the publishers' own formats."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from pipeline.data.archives import Archive
from pipeline.data.dataset import Box
from pipeline.data.decode import open_image
from tests import publishers
from tests.data.published import CLASSES, MASKED, SIDE, accept, changed, load, members, refused
from tests.publishers import PUBLISHERS, image_size, object_box, object_mask, picture

pytestmark = pytest.mark.usefixtures("scratch")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["unpacked", "packed"])
@pytest.mark.parametrize("name", PUBLISHERS)
def test_loader_reads_what_the_publisher_wrote(
    name: str, form: str, trees: dict[str, Path], archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "packed":
        accept(name, archives[name], monkeypatch)
    collection = load(name, trees[name] if form == "unpacked" else archives[name])
    expected = members(name)
    assert collection.labels.tolist() == [label for label, _ in expected]
    assert collection.labels.dtype == np.int64
    assert len(set(collection.names)) == len(collection.images) == len(expected)
    for number, (label, index) in enumerate(expected):
        size = {"cifar10": (32, 32), "eurosat": (SIDE, SIDE)}.get(name, image_size(index, SIDE))
        mask = object_mask(label, index, size)
        if collection.boxes is not None:
            assert collection.boxes[number] == [Box(*map(float, object_box(label, index, size)))]
        if collection.masks is not None:
            encoded = collection.masks[number]
            assert encoded is not None
            np.testing.assert_array_equal(np.asarray(open_image(encoded, "mask")), np.where(mask, 255, 0))
        if number % 7 == 0:
            pixels = np.asarray(open_image(collection.images[number], "image"), dtype=float)
            difference = np.abs(pixels - picture(label, index, size))
            assert difference.max() == 0 if name == "cifar10" else difference.mean() < 25
    assert (collection.boxes is not None) == (name in ("caltech101", "cub200"))
    assert (collection.masks is not None) == (name in MASKED)
    if name in ("caltech101", "eurosat"):
        assert collection.splits is None
    else:
        assert collection.splits == [publishers.split(index, name == "oxford102") for _, index in expected]


def test_names_and_classes(trees: dict[str, Path]) -> None:
    collections = {name: load(name, tree, masks=False) for name, tree in trees.items()}
    assert {name: (one.class_names[0], one.class_names[-1], one.names[0]) for name, one in collections.items()} == {
        "caltech101": ("Faces", "animal_96", "Faces/image_0001.jpg"),
        "cifar10": ("airplane", "truck", "data_batch_1/00000"),
        "cub200": ("001.Bird_1", "200.Bird_200", "001.Bird_1/Bird_0000_0.jpg"),
        "eurosat": ("AnnualCrop", "SeaLake", "AnnualCrop/AnnualCrop_1.jpg"),
        "oxford102": ("pink primrose", "blackberry lily", "image_00001.jpg"),
    }
    assert [len(set(one.class_names)) for one in collections.values()] == list(CLASSES.values())
    file = trees["cub200"] / "CUB_200_2011" / "images" / collections["cub200"].names[17]
    assert collections["cub200"].images[17] == file.read_bytes()


@pytest.mark.parametrize(("name", "root"), [("caltech101", "101_ObjectCategories/Faces"), ("eurosat", "2750/Forest")])
def test_what_file_managers_leave_behind_is_no_picture(
    name: str, root: str, trees: dict[str, Path], tmp_path: Path
) -> None:
    tree = changed(trees[name], tmp_path)
    for file in ("._image_0001.jpg", "Thumbs.db", "../.DS_Store", "../notes.txt"):
        (tree / root / file).write_bytes(b"left behind")
    (tree / root / "../.cache").mkdir()
    assert load(name, tree).names == load(name, trees[name]).names


def test_without_masks_their_archives_are_not_needed(
    archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, unneeded in (("cub200", "segmentations.tgz"), ("oxford102", "102segmentations.tgz")):
        folder = Path(shutil.copytree(archives[name], tmp_path / name))
        (folder / unneeded).unlink()
        accept(name, folder, monkeypatch)
        assert load(name, folder, masks=False).masks is None
        assert refused(name, folder).startswith(f"{folder}/{unneeded}: there is no such file, and it could not be")
    accept("caltech101", archives["caltech101"], monkeypatch)
    collection = load("caltech101", archives["caltech101"], masks=False)
    assert collection.masks is None
    assert collection.boxes is None


def test_unpacked_and_packed_may_be_mixed(
    trees: dict[str, Path], archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cub"
    shutil.copytree(trees["cub200"] / "CUB_200_2011", folder / "CUB_200_2011")
    shutil.copy(archives["cub200"] / "segmentations.tgz", folder)
    accept("cub200", folder, monkeypatch)
    mixed = load("cub200", folder)
    assert mixed.masks == load("cub200", trees["cub200"]).masks
    (folder / "segmentations.tgz").unlink()
    shutil.copytree(trees["cub200"] / "segmentations", folder / "CUB_200_2011" / "segmentations")
    assert load("cub200", folder).masks == mixed.masks


@pytest.mark.parametrize("name", ["caltech101", "cifar10", "eurosat", "oxford102"])
def test_torchvision_reads_the_same(
    name: str, trees: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cifar", "flowers102"):  # they insist on the checksums of the large files
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)
    folder = {"caltech101": "caltech101", "eurosat": "eurosat", "oxford102": "flowers-102"}.get(name)
    if folder is not None:
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / folder).symlink_to(trees[name])
    root = trees[name] if folder is None else tmp_path / "root"
    collection = load(name, root)
    theirs: list[tuple[np.ndarray, int]] = []
    if name == "caltech101":
        theirs = [(np.asarray(image), label) for image, label in torchvision.datasets.Caltech101(root)]
    elif name == "eurosat":
        theirs = [(np.asarray(image), label) for image, label in torchvision.datasets.EuroSAT(root)]
    elif name == "cifar10":
        parts = [torchvision.datasets.CIFAR10(root, train=train) for train in (True, False)]
        theirs = [(np.asarray(image), label) for part in parts for image, label in part]
        assert parts[0].classes == collection.class_names
        assert collection.splits == ["train"] * len(parts[0]) + ["test"] * len(parts[1])
    else:
        assert collection.splits is not None
        for split in ("train", "val", "test"):
            part = torchvision.datasets.Flowers102(root, split=split)
            ours = [n for n, one in enumerate(collection.splits) if one == split.replace("val", "validation")]
            assert len(part) == len(ours)
            for number, (image, label) in zip(ours, part, strict=True):
                np.testing.assert_array_equal(np.asarray(open_image(collection.images[number], "ours")), image)
                assert collection.labels[number] == label
        return
    assert len(theirs) == len(collection.images)
    for encoded, ours, (pixels, label) in zip(collection.images, collection.labels, theirs, strict=True):
        assert ours == label
        np.testing.assert_array_equal(np.asarray(open_image(encoded, "ours")), pixels)


def test_archives_are_those_that_torchvision_downloads() -> None:
    known = {name: importlib.import_module(f"pipeline.data.datasets.{name}").CONTENTS for name in PUBLISHERS}
    theirs = torchvision.datasets.CIFAR10
    assert [*known["cifar10"].values()] == [Archive(theirs.filename, theirs.url, theirs.tgz_md5)]
    files = {archive.name: archive for archive in known["oxford102"].values()}
    for name, checksum in torchvision.datasets.Flowers102._file_dict.values():
        prefix = torchvision.datasets.Flowers102._download_url_prefix
        assert files[name] == Archive(name, prefix + name, checksum)
    for name, kind in (("caltech101", "Caltech101"), ("eurosat", "EuroSAT")):
        source = inspect.getsource(getattr(torchvision.datasets, kind))
        for archive in known[name].values():
            assert f'"{archive.url}"' in source
            assert f'"{archive.md5}"' in source
    for contents in known.values():
        assert all(re.fullmatch("[0-9a-f]{32}", archive.md5) for archive in contents.values())


@pytest.mark.slow
def test_the_compiler_is_not_imported(trees: dict[str, Path], tmp_path: Path) -> None:
    code = f"""
import sys
from pipeline.data.archives import Archive, unpacked
from pipeline.data.datasets import oxford102, cifar10
from pipeline.core.errors import UserError
assert "torch" not in sys.modules, "params.yaml is checked with the loaders imported"
settings = dict(loader="oxford102", source="", image_size=32, folder={str(trees["oxford102"])!r}, images=408,
                masks=False, split=dict(validation=0.2, test=0.2))
assert len(oxford102.load(oxford102.Settings(**settings), 0).class_names) == 102
try:
    with unpacked({str(tmp_path / "folder")!r}, {{"x": Archive("x.zip", "file:///nowhere/x.zip", "")}}):
        pass
except UserError:
    pass
assert "torchvision.datasets" in sys.modules
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
