"""Small published datasets: where they lie, loading them, and changing them."""

from __future__ import annotations

import hashlib
import importlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.data.dataset import DATASETS, Collection
from tests import publishers

SIDE = 32
PER_CLASS = {"caltech101": 2, "cifar10": 5, "cub200": 2, "eurosat": 4, "oxford102": 4}
CLASSES = {"caltech101": 101, "cifar10": 10, "cub200": 200, "eurosat": 10, "oxford102": 102}
COUNTS = {name: CLASSES[name] * count for name, count in PER_CLASS.items()}
MASKED = ("caltech101", "cub200", "oxford102")


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
