"""What is wrong with an archive: it is found out before anything is read from it, in one line."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.data.unpacking import unpack
from tests.data.published import accept, changed, md5, refused
from tests.packing import ARCHIVES
from tests.publishers import PUBLISHERS

pytestmark = pytest.mark.usefixtures("scratch")


@pytest.mark.slow
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


@pytest.fixture(params=["filter", "no filter"])
def filters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack as with this Python, and as with one before 3.11.4, whose tarfile has no filters."""
    if request.param == "no filter":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("filters")
def test_files_lose_their_owner_and_permissions(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        for name, kind in (("folder", tarfile.DIRTYPE), ("folder/file", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.size = kind, 0o6777, 4321, 3 * (kind == tarfile.REGTYPE)
            packed.addfile(member, io.BytesIO(b"abc"))
    unpack(tmp_path / "a.tar", tmp_path / "out", "a.tar")
    for path in (tmp_path / "out/folder", tmp_path / "out/folder/file"):
        assert path.stat().st_uid == os.getuid()
        assert not path.stat().st_mode & 0o6022
    assert path.read_bytes() == b"abc"


@pytest.mark.usefixtures("filters")
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


def test_a_hard_link_to_nothing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as packed:
        member = tarfile.TarInfo("cifar-10-batches-py")
        member.type, member.linkname = tarfile.LNKTYPE, "gone"
        packed.addfile(member)
    accept("cifar10", folder, monkeypatch)
    assert refused("cifar10", folder).startswith(f"{folder}/cifar-10-python.tar.gz: ")


def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "2750").write_text("a file")
    assert refused("eurosat", tmp_path) == f"{tmp_path}/2750: found a file; allowed: a folder with one folder per class"


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
