"""Caltech-101: annotations in MATLAB's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from pipeline.data.dataset import Box
from pipeline.data.decode import open_image
from tests.data.published import changed, load, refused

pytestmark = pytest.mark.usefixtures("scratch")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"box_coord": [[1, 9, 1, 9]]}, "variable obj_contour: found none; allowed: a matrix of finite numbers"),
        (
            {"box_coord": "text", "obj_contour": np.ones((2, 4))},
            "variable box_coord: found one of type <U4; allowed: a matrix of finite numbers",
        ),
        (
            {"box_coord": [[1, 9, 1, 9]], "obj_contour": np.full((2, 4), np.nan)},
            "variable obj_contour: found one of type float64; allowed: a matrix of finite numbers",
        ),
        (
            {"box_coord": [[1, 9, 1]], "obj_contour": np.ones((2, 4))},
            "found box_coord of shape (1, 3) and obj_contour of shape (2, 4); allowed: 4 numbers, and 2 by 3 or more",
        ),
        (
            {"box_coord": [[1, 9, 1, 9]], "obj_contour": np.ones((4, 2))},
            "found box_coord of shape (1, 4) and obj_contour of shape (4, 2); allowed: 4 numbers, and 2 by 3 or more",
        ),
        (
            {"box_coord": [[1, 9, 1, 9]], "obj_contour": scipy.sparse.eye(3).tocsc()},
            "variable obj_contour: found one of type {sparse}; allowed: a matrix of finite numbers",
        ),
        (
            {"box_coord": [[1, 9, 1, 9]], "obj_contour": np.ones((2, 4, 3))},
            "found box_coord of shape (1, 4) and obj_contour of shape (2, 4, 3); "
            "allowed: 4 numbers, and 2 by 3 or more",
        ),
        (
            {"box_coord": [[1, 9, 1, 9]], "obj_contour": np.full((2, 4), 1e308)},
            "obj_contour: found 1e+308; allowed: pixels, at most 100000",
        ),
        (
            {"box_coord": [[40, 50, 1, 9]], "obj_contour": np.ones((2, 4))},
            "box_coord: found a box from (0, 39) to (9, 50); allowed: one on its image of 36 by 32 pixels",
        ),
    ],
)
def test_a_malformed_annotation(content: dict[str, Any], message: str, trees: dict[str, Path], tmp_path: Path) -> None:
    tree = changed(trees["caltech101"], tmp_path)
    file = tree / "Annotations" / "animal_03" / "annotation_0001.mat"
    scipy.io.savemat(file, content)
    sparse = type(scipy.io.loadmat(file).get("obj_contour")).__name__
    assert refused("caltech101", tree) == f"{file}: {message.format(sparse=sparse)}"


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
