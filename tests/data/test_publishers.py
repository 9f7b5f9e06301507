"""The loaders of published datasets, on small ones in the publishers' own formats."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.client import IncompleteRead
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import scipy.io
import torchvision.datasets
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.registry import DATASETS
from pipeline.data.archives import Archive, unpacked
from pipeline.data.datasets import Box, Collection
from pipeline.data.decode import open_image
from tests import publishers
from tests.publishers import ARCHIVES, PUBLISHERS, image_size, object_box, object_mask, pack, picture, write_pickle

SIDE = 32
PER_CLASS = {"caltech101": 2, "cifar10": 5, "cub200": 2, "eurosat": 4, "oxford102": 4}
CLASSES = {"caltech101": 101, "cifar10": 10, "cub200": 200, "eurosat": 10, "oxford102": 102}
COUNTS = {name: CLASSES[name] * count for name, count in PER_CLASS.items()}
MASKED = ("caltech101", "cub200", "oxford102")


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All datasets, unpacked; not to be changed."""
    root = tmp_path_factory.mktemp("unpacked")
    for name, write in PUBLISHERS.items():
        assert write(root / name, PER_CLASS[name], SIDE) == COUNTS[name]
    return {name: root / name for name in PUBLISHERS}


@pytest.fixture(scope="session")
def archives(trees: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All datasets as archives; not to be changed."""
    root = tmp_path_factory.mktemp("packed")
    for name, tree in trees.items():
        pack(name, tree, root / name)
    return {name: root / name for name in trees}


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, no test may leave anything where archives are unpacked."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def accept(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the archives in a folder for the publisher's; what is missing there cannot be downloaded."""
    module = importlib.import_module(f"pipeline.data.datasets.{name}")
    known = {file.name: md5(file) for file in folder.iterdir() if file.is_file()}
    contents = {
        path: replace(archive, md5=known.get(archive.name, archive.md5), url=(folder / "gone" / archive.name).as_uri())
        for path, archive in module.CONTENTS.items()
    }
    monkeypatch.setattr(module, "CONTENTS", contents)


def load(name: str, folder: Path, masks: bool = True, images: int | None = None) -> Collection:
    entry = DATASETS[name]
    raw: dict[str, Any] = {
        "loader": name,
        "source": "requirements.lock",
        "image_size": 32,
        "folder": str(folder),
        "images": COUNTS[name] if images is None else images,
        "split": {"validation": 0.2, "test": 0.2},
    }
    return entry.load(entry.settings.model_validate(raw | ({"masks": masks} if name in MASKED else {})), 0)


def refused(name: str, folder: Path, **options: Any) -> str:
    """Return the one line that a loader refuses a folder with, in which it leaves nothing."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        load(name, folder, **options)
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    assert "scratch" not in str(caught.value)
    return str(caught.value)


def changed(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "changed"))


def members(name: str) -> list[tuple[int, int]]:
    """Return class and position in it of each image, in the order that the publisher lists them."""
    if name == "oxford102":
        return publishers.oxford_members(PER_CLASS[name])
    if name == "cifar10":  # the test batch, which has the second of each class, is the last
        return [(label, index) for index in (0, 2, 3, 4, 1) for label in range(10)]
    return [(label, index) for label in range(CLASSES[name]) for index in range(PER_CLASS[name])]


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


# What is wrong with an archive


@pytest.mark.parametrize(("name", "archive"), [(name, archive) for name, held in ARCHIVES.items() for archive in held])
def test_an_archive_that_is_cut_short_is_not_unpacked(
    name: str, archive: str, archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed(archives[name], tmp_path)
    accept(name, folder, monkeypatch)
    allowed, whole = md5(folder / archive), (folder / archive).read_bytes()
    (folder / archive).write_bytes(whole[: len(whole) // 2])
    assert refused(name, folder) == (
        f"{folder}/{archive}: found {len(whole) // 2} bytes with the MD5 checksum {md5(folder / archive)}; allowed: "
        f"{allowed}; it is cut short or another file, remove or replace it"
    )


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_damaged_archive_is_one_line_whatever_its_checksum(
    name: str, archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = next(iter(ARCHIVES[name]))
    whole = (archives[name] / archive).read_bytes()
    third = len(whole) // 3
    garbled = whole[:third] + bytes(255 - byte for byte in whole[third : third + 300]) + whole[third + 300 :]
    for number, content in enumerate((whole[: len(whole) // 2], b"", b"not an archive", garbled)):
        folder = changed(archives[name], tmp_path / str(number))
        (folder / archive).write_bytes(content)
        accept(name, folder, monkeypatch)
        message = refused(name, folder)
        assert message.startswith(f"{folder}/{archive}")
        # tarfile takes a garbled header for the end; what then lacks is found by the loader.
        assert content is garbled or "cannot be unpacked (" in message


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_missing_archive_says_where_to_get_and_place_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    accept(name, folder, monkeypatch)
    message = refused(name, folder)
    archive, held = next(iter(ARCHIVES[name].items()))
    assert message.startswith(f"{folder}/{archive}: there is no such file, and it could not be downloaded (")
    url = (folder / "gone" / archive).as_uri()
    assert message.endswith(
        f"allowed in {folder}: the file {archive} from {url}, or what it holds, unpacked: {', '.join(held)}"
    )


def tar_of(file: Path, *members: tuple[str, str | None]) -> None:
    """Write a tar of empty files, or of links to somewhere."""
    with tarfile.open(file, "w:gz") as packed:
        for name, link in members:
            member = tarfile.TarInfo(name)
            if link is not None:
                member.type, member.linkname = tarfile.SYMTYPE, link
            packed.addfile(member)


@pytest.mark.parametrize(
    "members",
    [
        [("good", None), ("../evil", None)],
        [("{}/evil", None)],
        [("link", "../.."), ("link/evil", None)],
        [("link", "{}"), ("link/evil", None)],
        [("deep/../../evil", None)],
    ],
)
def test_a_tar_that_would_write_elsewhere_is_refused(
    members: list[tuple[str, str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    filled = [(name.format(outside), link and link.format(outside)) for name, link in members]
    tar_of(folder / "cifar-10-python.tar.gz", *filled)
    accept("cifar10", folder, monkeypatch)
    message = refused("cifar10", folder)
    bad = next(name for name, link in filled if name != "good")
    assert message.startswith(f"{folder}/cifar-10-python.tar.gz: found the member {bad!r}; allowed: ")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("member", ["../evil", "2750/../../evil", "/{}/evil", "..\\evil", "C:\\evil"])
def test_a_zip_that_would_write_elsewhere_is_refused(
    member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    name = member.format(tmp_path.as_posix().lstrip("/"))
    with zipfile.ZipFile(folder / "EuroSAT.zip", "w") as packed:
        packed.writestr("2750/good.jpg", b"")
        packed.writestr(name, b"")
    accept("eurosat", folder, monkeypatch)
    assert refused("eurosat", folder).startswith(f"{folder}/EuroSAT.zip: found the member {name!r}; allowed: paths")
    assert not list(tmp_path.rglob("*evil"))


def test_an_archive_inside_an_archive_is_watched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    tar_of(tmp_path / "inner.tar.gz", ("../../evil", None))
    with zipfile.ZipFile(folder / "caltech-101.zip", "w") as packed:
        packed.write(tmp_path / "inner.tar.gz", "caltech-101/101_ObjectCategories.tar.gz")
    accept("caltech101", folder, monkeypatch)
    inner = f"{folder}/caltech-101.zip/caltech-101/101_ObjectCategories.tar.gz"
    assert refused("caltech101", folder).startswith(f"{inner}: found the member '../../evil'")
    with zipfile.ZipFile(folder / "caltech-101.zip", "w") as packed:
        packed.writestr("caltech-101/101_ObjectCategories.tar.gz", b"damaged")
    accept("caltech101", folder, monkeypatch)
    assert refused("caltech101", folder).startswith(f"{inner}: cannot be unpacked (")


def test_an_archive_without_what_it_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    tar_of(folder / "cifar-10-python.tar.gz", ("cifar-100-python/train", None))
    accept("cifar10", folder, monkeypatch)
    archive = f"{folder}/cifar-10-python.tar.gz"
    assert refused("cifar10", folder) == f"{archive}: found no cifar-10-batches-py in it, which the publisher's has"


# Downloads


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """Serve a folder with CIFAR's archive on this machine; return the folder and the archive's address."""
    folder = Path(shutil.copytree(archives["cifar10"], tmp_path / "site"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/{CIFAR}"
        server.shutdown()


CIFAR = "cifar-10-python.tar.gz"


def downloadable(source: Path, url: str) -> dict[str, Archive]:
    return {"cifar-10-batches-py": Archive(source.name, url, md5(source))}


def test_a_missing_archive_is_downloaded(site: tuple[Path, str], tmp_path: Path) -> None:
    source, folder = site[0] / CIFAR, tmp_path / "new" / "folder"
    contents = downloadable(source, site[1])
    with unpacked(str(folder), contents) as places:
        assert (places["cifar-10-batches-py"] / "batches.meta").is_file()
    assert [file.name for file in folder.iterdir()] == [CIFAR]
    assert md5(folder / CIFAR) == md5(source)
    source.unlink()
    with unpacked(str(folder), contents) as places:
        assert (places["cifar-10-batches-py"] / "batches.meta").is_file()


def test_a_download_that_is_not_the_publishers_leaves_nothing(site: tuple[Path, str], tmp_path: Path) -> None:
    source, folder = site[0] / CIFAR, tmp_path / "folder"
    contents = downloadable(source, site[1])
    allowed = md5(source)
    source.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(UserError) as caught, unpacked(str(folder), contents):
        pass
    assert str(caught.value) == (
        f"{site[1]}: found 26 bytes with the MD5 checksum {md5(source)}; allowed: {allowed}; "
        f"it is cut short or another file, place the right one at {folder}/{CIFAR}"
    )
    assert list(folder.iterdir()) == []
    source.unlink()
    reason = r"it could not be downloaded \(HTTP Error 404: File not found\); allowed in"
    with pytest.raises(UserError, match=reason), unpacked(str(folder), contents):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [OSError("no\nroute"), IncompleteRead(b"the beginning", 9)])
def test_a_download_that_breaks_off_leaves_nothing(
    error: Exception, archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(source: BinaryIO, target: BinaryIO, size: int) -> None:
        target.write(b"the beginning")
        raise error

    monkeypatch.setattr("pipeline.data.download.shutil.copyfileobj", break_off)
    archive = archives["cifar10"] / CIFAR
    contents = downloadable(archive, archive.as_uri())
    reason = r"it could not be downloaded \((no route|IncompleteRead\(13 bytes read, 9 more expected\))\)"
    with pytest.raises(UserError, match=reason), unpacked(str(tmp_path / "folder"), contents):
        pass
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_server_that_does_not_answer_is_given_up(
    archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.download.PATIENCE", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        contents = downloadable(archives["cifar10"] / CIFAR, f"http://127.0.0.1:{silent.getsockname()[1]}/{CIFAR}")
        with pytest.raises(UserError, match="timed out"), unpacked(str(tmp_path / "folder"), contents):
            pass
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(archives: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    contents = downloadable(archives["cifar10"] / CIFAR, "http://127.0.0.1/nowhere")
    reason = r"file/cifar-10-python\.tar\.gz: there is no such file, and it could not be downloaded \("
    with pytest.raises(UserError, match=reason), unpacked(str(tmp_path / "file"), contents):
        pass


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


# What is wrong with what an archive holds


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_wrong_number_of_images(name: str, trees: dict[str, Path]) -> None:
    message = refused(name, trees[name], images=9999)
    assert message.startswith(str(trees[name]))
    assert message.endswith(
        f": found {COUNTS[name]} images; params.yaml: datasets: images says 9999; is the copy incomplete?"
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
    "cub200": ["CUB_200_2011/images/007.Bird_7/Bird_0001_13.jpg", "segmentations/007.Bird_7/Bird_0001_13.png",
               "CUB_200_2011/bounding_boxes.txt"],
    "eurosat": [],
    "oxford102": ["jpg/image_00010.jpg", "segmim/segmim_00010.jpg"],
}  # fmt: skip


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


class Evil:
    """Runs a program when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_cannot_run_code(trees: dict[str, Path], tmp_path: Path) -> None:
    tree, trace = changed(trees["cifar10"], tmp_path), tmp_path / "evil"
    for file in (tree / "cifar-10-batches-py" / one for one in ("batches.meta", "data_batch_2", "test_batch")):
        whole = file.read_bytes()
        evil = Evil(trace)
        file.write_bytes(pickle.dumps({"data": evil, "label_names": evil}, protocol=2))
        pickle.loads(file.read_bytes())
        assert trace.is_dir(), "the test's pickle does no harm"
        trace.rmdir()
        message = refused("cifar10", tree)
        assert re.fullmatch(
            rf"{re.escape(str(file))}: not a readable batch \(it refers to \w+\.mkdir, which no batch needs\)", message
        )
        assert not trace.exists()
        file.write_bytes(whole)


ROW = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "found list; allowed: a dict"),
        ({"labels": [0, 1]}, "data: found no array of bytes; allowed: one of N by 3072"),
        ({"data": ROW[:, :7], "labels": [0, 1]}, "data: found no array of bytes; allowed: one of N by 3072"),
        ({"data": ROW.astype(float), "labels": [0, 1]}, "data: found no array of bytes; allowed: one of N by 3072"),
        ({"data": ROW}, "labels: found no labels; allowed: a list of 2, one a picture"),
        ({"data": ROW, "labels": [0, 1, 2]}, "labels: found 3 labels; allowed: a list of 2, one a picture"),
        ({"data": ROW, "labels": [0, 10]}, "labels: found 10; allowed: 0 to 9"),
    ],
)
def test_a_batch_of_another_form(content: Any, message: str, trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["cifar10"], tmp_path)
    file = tree / "cifar-10-batches-py" / "data_batch_2"
    write_pickle(content, file)
    assert refused("cifar10", tree) == f"{file}: {message}"


def test_a_batch_that_is_cut_short(trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["cifar10"], tmp_path)
    file = tree / "cifar-10-batches-py" / "test_batch"
    whole = file.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-1]):
        file.write_bytes(content)
        assert refused("cifar10", tree).startswith(f"{file}: not a readable batch (")


@pytest.mark.parametrize(
    ("file", "number", "line", "message"),
    [
        ("images", 3, "3", "found '3'; allowed: a number and a path below images"),
        ("images", 3, "2 elsewhere.jpg", "found 2 a second time; allowed: each number once"),
        ("image_class_labels", 9, "9 albatross", "found '9 albatross'; allowed: an image's and a class's number"),
        ("image_class_labels", 9, "", "found ''; allowed: an image's and a class's number"),
        ("train_test_split", 5, "5 2", "found '5 2'; allowed: an image's number, and 1 (train) or 0 (test)"),
        ("train_test_split", 5, "5000 1", "found image 5000; allowed: those of images.txt"),
        ("bounding_boxes", 7, "7 1.0 2.0 3.0",
         "found '7 1.0 2.0 3.0'; allowed: an image's number, and x, y, width and height of a box"),
        ("classes", 200, "x 200.Bird", "found 'x 200.Bird'; allowed: a number and a name"),
    ],
)  # fmt: skip
def test_a_malformed_line(
    file: str, number: int, line: str, message: str, trees: dict[str, Path], tmp_path: Path
) -> None:
    tree = changed(trees["cub200"], tmp_path)
    text = tree / "CUB_200_2011" / f"{file}.txt"
    lines = text.read_text().splitlines()
    lines[number - 1] = line
    text.write_text("\n".join(lines) + "\n")
    assert refused("cub200", tree) == f"{text}: line {number}: {message}"


def test_lists_that_do_not_agree(trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["cub200"], tmp_path)
    splits, labels, boxes = (
        tree / "CUB_200_2011" / f"{name}.txt" for name in ("train_test_split", "image_class_labels", "bounding_boxes")
    )
    whole = splits.read_text()
    splits.write_text("".join(whole.splitlines(keepends=True)[:-3]))
    assert refused("cub200", tree) == f"{splits}: found 397 lines and none for image 398 of images.txt"
    splits.write_text(whole)
    text = labels.read_text()
    labels.write_text(text.replace("\n4 2\n", "\n4 201\n"))
    assert refused("cub200", tree) == f"{labels}: found the class 201; allowed: those of classes.txt"
    labels.write_text(text)
    text = boxes.read_text()
    for wrong, shown in (("90.0 1.0 5.0 5.0", "(90, 1) to (95, 6)"), ("3.0 nan 5.0 5.0", "(3, nan) to (8, nan)"),
                         ("3.0 3.0 0.0 5.0", "(3, 3) to (3, 8)")):  # fmt: skip
        boxes.write_text(re.sub(r"^4 .*$", f"4 {wrong}", text, flags=re.MULTILINE))
        assert refused("cub200", tree) == (
            f"{boxes}: image 4: found a box from {shown}; allowed: one on its image of 39 by 32 pixels"
        )
    boxes.write_text(re.sub(r"^4 .*$", "4 -3.0 2.0 90.0 5.5", text, flags=re.MULTILINE))
    found = load("cub200", tree).boxes
    assert found is not None
    assert found[3] == [Box(0, 2, 39, 7.5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"box_coord": [[1, 9, 1, 9]]}, "variable obj_contour: found none; allowed: a matrix of finite numbers"),
        ({"box_coord": "text", "obj_contour": np.ones((2, 4))},
         "variable box_coord: found one of type <U4; allowed: a matrix of finite numbers"),
        ({"box_coord": [[1, 9, 1, 9]], "obj_contour": np.full((2, 4), np.nan)},
         "variable obj_contour: found one of type float64; allowed: a matrix of finite numbers"),
        ({"box_coord": [[1, 9, 1]], "obj_contour": np.ones((2, 4))},
         "found box_coord of shape (1, 3) and obj_contour of shape (2, 4); allowed: 4 numbers, and 2 by 3 or more"),
        ({"box_coord": [[1, 9, 1, 9]], "obj_contour": np.ones((4, 2))},
         "found box_coord of shape (1, 4) and obj_contour of shape (4, 2); allowed: 4 numbers, and 2 by 3 or more"),
        ({"box_coord": [[40, 50, 1, 9]], "obj_contour": np.ones((2, 4))},
         "box_coord: found a box from (0, 39) to (9, 50); allowed: one on its image of 36 by 32 pixels"),
    ],
)  # fmt: skip
def test_a_malformed_annotation(content: dict[str, Any], message: str, trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["caltech101"], tmp_path)
    file = tree / "Annotations" / "animal_03" / "annotation_0001.mat"
    scipy.io.savemat(file, content)
    assert refused("caltech101", tree) == f"{file}: {message}"


def test_an_outline_is_not_its_box(trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["caltech101"], tmp_path)
    file = tree / "Annotations" / "animal_03" / "annotation_0001.mat"
    # Pixels 11 to 20 across and 6 to 15 down; the lower left half of them, and a little of what is left of the image.
    scipy.io.savemat(file, {"box_coord": [[6, 15, 11, 20]], "obj_contour": [[-0.2, 9.2, -0.2], [-0.2, 9.2, 9.2]]})
    collection = load("caltech101", tree)
    number = collection.names.index("animal_03/image_0001.jpg")
    assert collection.boxes is not None
    assert collection.masks is not None
    assert collection.boxes[number] == [Box(10, 5, 20, 15)]
    expected = np.zeros((32, 36), np.uint8)
    expected[5:15, 10:20] = 255 * np.tri(10, dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(open_image(collection.masks[number] or b"", "mask")), expected)


@pytest.mark.parametrize("content", [b"", b"text", b"MATLAB 5.0 MAT-file" + bytes(200), None])
def test_a_damaged_matlab_file(content: bytes | None, trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["oxford102"], tmp_path)
    whole = (tree / "setid.mat").read_bytes()
    (tree / "setid.mat").write_bytes(whole[: len(whole) - 500] if content is None else content)
    message = refused("oxford102", tree)
    assert re.match(
        rf"{re.escape(str(tree))}/setid\.mat: (not a readable MATLAB file \(|variable trnid: found none)", message
    )


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("valid", [3, 4, 4], "valid: found image 4; allowed: each of 1 to 408 once"),
        ("valid", [409], "valid: found image 409; allowed: each of 1 to 408 once"),
        ("valid", [0], "valid: found image 0; allowed: each of 1 to 408 once"),
        ("valid", [1.5], "valid: found image 1.5; allowed: each of 1 to 408 once"),
        ("trnid", [7], "found no split for image 1; allowed: one for each of 408"),
        ("tstid", "none", "variable tstid: found one of type <U4; allowed: a matrix of finite numbers"),
    ],
)
def test_splits_that_do_not_fit(name: str, numbers: Any, message: str, trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["oxford102"], tmp_path)
    none = np.zeros((1, 0))
    scipy.io.savemat(tree / "setid.mat", {"trnid": none, "valid": none, "tstid": none} | {name: numbers})
    assert refused("oxford102", tree) == f"{tree / 'setid.mat'}: {message}"


def test_the_blue_behind_a_flower_is_found_through_the_noise_of_jpeg(trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["oxford102"], tmp_path)
    with Image.open(tree / "segmim" / "segmim_00001.jpg") as one:
        segmented = one.copy()
    buffer = io.BytesIO()
    segmented.save(buffer, format="JPEG", quality=75)
    (tree / "segmim" / "segmim_00001.jpg").write_bytes(buffer.getvalue())
    masks = load("oxford102", tree).masks
    assert masks is not None
    label, index = publishers.oxford_members(PER_CLASS["oxford102"])[0]
    expected = object_mask(label, index, image_size(index, SIDE))
    found = np.asarray(open_image(masks[0] or b"", "mask")) > 0
    assert (found & expected).sum() / (found | expected).sum() > 0.8
