"""CUB-200: lists of numbers and values that have to agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.data.dataset import Box
from tests.data.published import changed, load, refused

pytestmark = pytest.mark.usefixtures("scratch")


@pytest.mark.parametrize(
    ("file", "number", "line", "message"),
    [
        ("images", 3, "3", "found '3'; allowed: a number and a path below images"),
        ("images", 3, "3 /etc/passwd", "found '3 /etc/passwd'; allowed: a number and a path below images"),
        ("images", 3, "3 ../../a.jpg", "found '3 ../../a.jpg'; allowed: a number and a path below images"),
        ("images", 3, "3 a\0.jpg", r"found '3 a\x00.jpg'; allowed: a number and a path below images"),
        ("images", 3, f"{'9' * 5000} a.jpg", f"found '{'9' * 80}'; allowed: a number and a path below images"),
        ("images", 3, "² a.jpg", "found '² a.jpg'; allowed: a number and a path below images"),
        ("images", 3, "2 elsewhere.jpg", "found 2 a second time; allowed: each number once"),
        ("image_class_labels", 9, "9 albatross", "found '9 albatross'; allowed: an image's and a class's number"),
        ("image_class_labels", 9, "", "found ''; allowed: an image's and a class's number"),
        ("train_test_split", 5, "5 2", "found '5 2'; allowed: an image's number, and 1 (train) or 0 (test)"),
        ("train_test_split", 5, "5000 1", "found image 5000; allowed: those of images.txt"),
        (
            "bounding_boxes",
            7,
            "7 1.0 2.0 3.0",
            "found '7 1.0 2.0 3.0'; allowed: an image's number, and x, y, width and height of a box",
        ),
        ("classes", 200, "x 200.Bird", "found 'x 200.Bird'; allowed: a number and a name"),
    ],
)
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
    for wrong, shown in (
        ("90.0 1.0 5.0 5.0", "(90, 1) to (95, 6)"),
        ("3.0 nan 5.0 5.0", "(3, nan) to (8, nan)"),
        ("3.0 3.0 0.0 5.0", "(3, 3) to (3, 8)"),
    ):
        boxes.write_text(re.sub(r"^4 .*$", f"4 {wrong}", text, flags=re.MULTILINE))
        assert refused("cub200", tree) == (
            f"{boxes}: image 4: found a box from {shown}; allowed: one on its image of 39 by 32 pixels"
        )
    boxes.write_text(re.sub(r"^4 .*$", "4 -3.0 2.0 90.0 5.5", text, flags=re.MULTILINE))
    found = load("cub200", tree).boxes
    assert found is not None
    assert found[3] == [Box(0, 2, 39, 7.5)]
