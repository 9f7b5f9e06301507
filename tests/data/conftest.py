"""All published datasets, small, as their publishers give them away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.published import COUNTS, PER_CLASS, SIDE
from tests.packing import pack
from tests.publishers import PUBLISHERS


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


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, no test may leave anything where archives are unpacked."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []
