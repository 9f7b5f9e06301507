"""CIFAR-10: batches that are pickles, which may hold anything."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.published import changed, refused
from tests.publishers import write_pickle

pytestmark = pytest.mark.usefixtures("scratch")


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
        ({"data": ROW}, "labels: found no labels; allowed: a list of 2, one per picture"),
        ({"data": ROW, "labels": [0, 1, 2]}, "labels: found 3 labels; allowed: a list of 2, one per picture"),
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
