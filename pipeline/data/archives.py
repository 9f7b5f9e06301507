"""Archives of datasets as their publishers distribute them, and what loaders read from them.

A loader says which paths it needs and which archive holds each. A path that lies unpacked in the user's folder is used
where it is; for the others, the archive is verified, unpacked into a scratch folder, and that is gone when the loader
is done. Errors name files inside an archive as ``archive/path``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from pipeline.core import params
from pipeline.core.device import threads
from pipeline.core.errors import UserError
from pipeline.core.files import md5
from pipeline.core.parallel import in_order
from pipeline.data.dataset import ArchivedSettings
from pipeline.data.decode import open_image
from pipeline.data.download import download
from pipeline.data.image_files import read_file
from pipeline.data.unpacking import is_packed, reason, unpack

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Archive:
    """A file as its publisher distributes it.

    Attributes:
        name: of the file; a tar or zip archive by its ending, or a plain file.
        url: where the publisher has it.
        md5: of the whole file.
    """

    name: str
    url: str
    md5: str


@contextmanager
def unpacked(folder: str, contents: Mapping[str, Archive], below: Sequence[str] = ()) -> Iterator[dict[str, Path]]:
    """Give a loader the files that it needs.

    Args:
        folder: where the user has the unpacked files or the archives; archives that are missing are downloaded to it.
        contents: the paths that the loader needs, and for each the archive that holds it. An archive inside that one
            that is called as the path is unpacked too.
        below: folders of the archives, or of those who unpack them, that the paths may lie in instead.

    Yields:
        Where each of the paths lies, until the block ends.

    Raises:
        UserError: an archive is neither there nor available, is not the publisher's, cannot be unpacked, or would
            write outside of its folder.
    """
    root = Path(folder)
    found = {path: place for path in contents if (place := _find(root, path, below))}
    if len(found) == len(contents):
        yield found
        return
    # Plain files beside archives are as little to be trusted as these.
    packed = {path: archive for path, archive in contents.items() if path not in found or path == archive.name}
    archives = dict.fromkeys(packed.values())  # each once, though it may hold several paths
    files = {archive: _verified(root, archive, _unpacked_form(packed, archive)) for archive in archives}
    with tempfile.TemporaryDirectory(prefix="cose-") as scratch:
        for archive, file in files.items():
            if is_packed(file):
                unpack(file, Path(scratch, archive.name), shown=str(file))
        try:
            for path, archive in packed.items():
                inside = Path(scratch, archive.name)
                found[path] = files[archive] if path == archive.name else _inside(inside, path, below, files[archive])
            yield found
        except UserError as error:
            # The scratch folder is gone when this is read.
            raise error.rewritten(lambda text: text.replace(scratch, str(root))) from error


def not_here(folder: str, contents: Mapping[str, Archive], below: Sequence[str] = ()) -> list[str]:
    """Say which archives would be downloaded; the arguments are those of `unpacked`."""
    root = Path(folder)
    needed = {archive: None for path, archive in contents.items() if _find(root, path, below) is None}
    return [f"{root / one.name}, downloaded from {one.url}" for one in needed if not (root / one.name).exists()]


def _find(root: Path, path: str, below: Sequence[str]) -> Path | None:
    places = [root / path, *(root / one / path for one in below)]
    return next((place for place in places if place.exists()), None)


def _inside(root: Path, path: str, below: Sequence[str], file: Path) -> Path:
    place = _find(root, path, below)
    if place is None:
        for inner in sorted(root.rglob(f"{path}.*")):
            if is_packed(inner):
                unpack(inner, root, shown=f"{file}/{inner.relative_to(root).as_posix()}")
        place = _find(root, path, below)
    if place is None:
        raise UserError(file, f"found no {path} in it, which the publisher's has")
    return place


def _unpacked_form(packed: Mapping[str, Archive], archive: Archive) -> str:
    paths = [path for path, holder in packed.items() if holder == archive and path != archive.name]
    return f", or what it holds, unpacked: {', '.join(paths)}" if paths else ""


def _verified(root: Path, archive: Archive, alternative: str) -> Path:
    file = root / archive.name
    if file.is_file():
        _check_sum(file, archive, "remove or replace it")
        return file
    download(
        archive.url,
        file,
        lambda draft: _check_sum(draft, archive, f"place the right one at {file}", shown=archive.url),
        f"allowed in {root}: the file {archive.name} from {archive.url}{alternative}",
    )
    return file


def _check_sum(file: Path, archive: Archive, remedy: str, shown: str = "") -> None:
    try:
        found = md5(file)
    except OSError as error:
        raise UserError(file, f"cannot be read ({error.strerror})") from None
    if found != archive.md5:
        raise UserError(
            shown or file,
            f"found {file.stat().st_size} bytes with the MD5 checksum {found}",
            expected=archive.md5,
            fix=f"it is cut short or another file, {remedy}",
        )


def read_images(files: Iterable[Path]) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Read image files, unchanged.

    Args:
        files: of any format Pillow reads.

    Returns:
        The bytes of each, and its width and height when upright.

    Raises:
        UserError: a file is missing or not a readable image.
    """

    def read(file: Path) -> tuple[bytes, tuple[int, int]]:
        encoded = read_file(file)
        return encoded, open_image(encoded, str(file)).size

    read_all = in_threads(read, files)
    return [encoded for encoded, _ in read_all], [size for _, size in read_all]


def in_threads(work: Callable[[Task], Result], tasks: Iterable[Task]) -> list[Result]:
    """Return ``work`` of each task, computed on all cores (see `pipeline.core.parallel.in_order`)."""
    return list(in_order(work, tasks, threads()))


def read_matrices(file: Path, names: Sequence[str]) -> list[npt.NDArray[np.float64]]:
    """Read numeric matrices of a MATLAB file.

    Args:
        file: in a format before 7.3.
        names: of its variables.

    Returns:
        Each as float64, with as many axes as it has in MATLAB.

    Raises:
        UserError: the file is missing or damaged, or has no such variable of finite numbers.
    """
    read_file(file)
    try:
        variables = loadmat(file, variable_names=names)
    except Exception as error:  # the parser trips over damage in its own ways: TypeError, struct.error, zlib.error ...
        raise UserError(file, f"not a readable MATLAB file ({reason(error)})") from None
    for name in names:
        matrix = variables.get(name)
        if not isinstance(matrix, np.ndarray) or matrix.dtype.kind not in "iuf" or not np.isfinite(matrix).all():
            found = "none"
            if matrix is not None:
                found = f"one of type {matrix.dtype if isinstance(matrix, np.ndarray) else type(matrix).__name__}"
            raise UserError(f"{file}: variable {name}", f"found {found}", expected="a matrix of finite numbers")
    return [variables[name].astype(np.float64) for name in names]


def check_classes(root: Path, found: int, allowed: int) -> None:
    """Raise `UserError` unless there are as many classes as the publisher's dataset has."""
    if found != allowed:
        raise UserError(
            root, f"found {found} classes", expected=allowed, fix="is the copy incomplete, or another dataset?"
        )


def list_folders(root: Path, classes: int, settings: ArchivedSettings, apart: str = "") -> dict[str, list[Path]]:
    """Find the JPEG files of a dataset that has one folder per class.

    Args:
        root: the folder of the folders.
        classes: how many there are.
        settings: how many images there are.
        apart: the name of a folder that is not a class.

    Returns:
        The names of the folders and the files of each, both in the order of their names.

    Raises:
        UserError: there are more or fewer classes or images.
    """
    if not root.is_dir():
        raise UserError(root, "found a file", expected="a folder with one folder per class")
    folders = sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))
    files = {folder.name: sorted(folder.glob("[!.]*.jpg")) for folder in folders if folder.name != apart}
    check_classes(root, len(files), classes)
    check_images(root, sum(map(len, files.values())), settings)
    return files


def check_images(root: Path, found: int, settings: ArchivedSettings) -> None:
    """Raise `UserError` unless there are as many images as params.yaml says."""
    if found != settings.images:
        raise UserError(
            root,
            f"found {found} images",
            expected=f"{settings.images}, as {params.at('datasets.*.images')} says",
            fix="is the copy incomplete?",
        )
