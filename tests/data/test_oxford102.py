"""Oxford 102 Flowers: splits in MATLAB's files, and segmentations as pictures."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from pipeline.data.decode import open_image
from tests import publishers
from tests.data.published import PER_CLASS, SIDE, changed, load, refused
from tests.publishers import image_size, object_mask

pytestmark = pytest.mark.usefixtures("scratch")


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
