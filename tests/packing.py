"""The archives that publishers make of their datasets: `pack` makes them of a folder of `tests.publishers`."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

ARCHIVES = {
    "caltech101": {"caltech-101.zip": ("101_ObjectCategories", "Annotations")},
    "cifar10": {"cifar-10-python.tar.gz": ("cifar-10-batches-py",)},
    "cub200": {"CUB_200_2011.tgz": ("CUB_200_2011",), "segmentations.tgz": ("segmentations",)},
    "eurosat": {"EuroSAT.zip": ("2750",)},
    "oxford102": {
        "102flowers.tgz": ("jpg",),
        "imagelabels.mat": (),
        "setid.mat": (),
        "102segmentations.tgz": ("segmim",),
    },
}
"""What each publisher's archives hold; plain files hold themselves."""
INNER = {"101_ObjectCategories": "101_ObjectCategories.tar.gz", "Annotations": "Annotations.tar"}
"""The archives inside Caltech's."""


def pack(name: str, folder: Path, target: Path) -> dict[str, str]:
    """Make a publisher's archives.

    Args:
        name: a key of `PUBLISHERS`.
        folder: what it has written.
        target: the folder for the archives.

    Returns:
        The names of the archives and the MD5 checksum of each.
    """
    target.mkdir(parents=True, exist_ok=True)
    for archive, trees in ARCHIVES[name].items():
        if name == "caltech101":
            members = {f"caltech-101/{INNER[tree]}": _tar(folder / tree, INNER[tree]) for tree in trees}
            (target / archive).write_bytes(_zip(members))
        elif not trees:
            (target / archive).write_bytes((folder / archive).read_bytes())
        elif archive.endswith(".zip"):
            files = [path for path in sorted((folder / trees[0]).rglob("*")) if path.is_file()]
            members = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
            (target / archive).write_bytes(_zip(members))
        else:
            (target / archive).write_bytes(_tar(folder / trees[0], archive))
    return {archive: hashlib.md5((target / archive).read_bytes()).hexdigest() for archive in ARCHIVES[name]}


def _tar(tree: Path, name: str) -> bytes:
    buffer = io.BytesIO()
    options = {} if name.endswith(".tar") else {"compresslevel": 1}
    with tarfile.open(fileobj=buffer, mode="w:gz" if options else "w", **options) as packed:
        packed.add(tree, tree.name)
    return buffer.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return buffer.getvalue()
