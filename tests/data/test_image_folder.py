"""The user's own pictures and boxes: good data, and one line for bad data."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.data.dataset import Box, Collection, SplitSettings
from pipeline.data.datasets import image_folder
from pipeline.data.decode import decode_images
from pipeline.data.splits import draw_splits
from tests.world import folder_of_pictures

SPLIT = SplitSettings(validation=0.2, test=0.2)


def settings(source: Path, boxes: Path | None = None, split: SplitSettings = SPLIT) -> image_folder.Settings:
    return image_folder.Settings(
        loader="image_folder", source=str(source), image_size=32, boxes=str(boxes) if boxes else None, split=split
    )


def test_image_folder_reads_every_picture(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=5, classes=("ant", "bee", "cat"))
    (root / ".cache").mkdir()
    (root / "ant" / "folder.png").mkdir()
    (root / "bee" / "._0.png").write_bytes(b"left behind by a file manager")
    (root / "ant" / "notes.txt").write_text("not a picture")
    Image.new("L", (30, 40), 7).save(root / "cat" / "grey.PNG")
    collection = image_folder.load(settings(root), 0)
    assert collection.class_names == ["ant", "bee", "cat"]
    assert collection.names[0] == "ant/0.png"
    assert np.bincount(collection.labels).tolist() == [5, 5, 6]
    pixels = decode_images(collection.images, 32, 1.0, "test")
    assert pixels.shape == (16, 32, 32, 3)
    assert (pixels[-1] == 7).all() or (pixels[collection.names.index("cat/grey.PNG")] == 7).all()


def test_image_folder_names_what_it_skips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=2, classes=("ant", "bee"))
    image_folder.load(settings(root), 0)
    assert capsys.readouterr().err == ""
    os.mkfifo(root / "ant" / "pipe.png")
    (root / "ant" / "gone.png").symlink_to("nowhere")
    (root / "ant" / "loop.png").symlink_to("loop.png")
    (root / "bee" / "more").mkdir()
    (root / "bee" / "0.xml").write_text("boxes, which are asked for elsewhere")
    for name in ("a.txt", "b.eps", "c\n.doc"):
        (root / "bee" / name).touch()
    assert len(image_folder.load(settings(root), 0).names) == 4
    assert capsys.readouterr().err == (
        f"note: {root}: skipped what is not a picture: 'ant/gone.png', 'ant/loop.png', 'ant/pipe.png', 'bee/a.txt', "
        "'bee/b.eps' and 2 more\n"
    )


@pytest.mark.parametrize("suffix", [suffix for suffix in image_folder.SUFFIXES if suffix not in (".jpg", ".png")])
def test_image_folder_reads_every_ending_that_it_names(suffix: str, tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=2, classes=("ant", "bee"))
    Image.new("L" if suffix == ".pgm" else "RGB", (30, 40)).save(root / "bee" / f"own{suffix}")
    assert image_folder.load(settings(root), 0).names[-1] == f"bee/own{suffix}"


@pytest.mark.parametrize("name", [b"\xff.png", b"a\nb.png", b"\x7f.png", "\u202e.png".encode()])
def test_names_that_no_table_holds_are_refused(name: bytes, tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=2, classes=("ant", "bee"))
    (root / "ant" / "0.png").rename(root / "ant" / os.fsdecode(name))
    with pytest.raises(
        UserError, match=r"pictures: found the image name 'ant/.*'; allowed: printable UTF-8 of"
    ) as caught:
        image_folder.load(settings(root), 0)
    assert str(caught.value).isprintable()
    (root / "bee").rename(root / os.fsdecode(name))
    with pytest.raises(
        UserError, match=r"pictures: found the class name '.*'; allowed: printable UTF-8 of at most 500"
    ):
        image_folder.load(settings(root), 0)


def test_image_folder_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"datasets\.\*\.source: found '.*missing', which is not a folder"):
        image_folder.load(settings(tmp_path / "missing"), 0)
    with pytest.raises(UserError, match=r"found 0 class folder\(s\); allowed: at least 2"):
        image_folder.load(settings(tmp_path), 0)
    root = folder_of_pictures(tmp_path / "pictures", per_class=5)
    (root / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: found no picture; allowed: files ending in \.bmp, .*, \.webp"):
        image_folder.load(settings(root), 0)
    (root / "empty").rmdir()
    whole = (root / "dark" / "0.png").read_bytes()
    for broken in (b"", b"GIF89a nonsense", whole[: len(whole) // 2]):
        (root / "dark" / "0.png").write_bytes(broken)
        with pytest.raises(UserError, match=r"dark/0\.png: not a readable image \(") as caught:
            image_folder.load(settings(root), 0)
        assert "\n" not in str(caught.value)


FOLDERS = SplitSettings(validation=0.5, test="folders")
TABLE = SplitSettings(validation=0.5, test="table")


def splits_of(collection: Collection, split: SplitSettings) -> dict[str, list[str]]:
    table = draw_splits(collection, split, 0, "pictures")
    return {name: sorted(part["name"]) for name, part in table.groupby("split")}


def test_a_split_in_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "pictures"
    for name, count in (("train", 4), ("test", 2)):
        folder_of_pictures(root / name, per_class=count, classes=("ant", "bee"))
    (root / "README.txt").touch()
    boxes = root / "boxes" / "test" / "bee"
    boxes.mkdir(parents=True)
    (boxes / "1.xml").write_text(voc((49, 43), (1, 1, 1, 1)))
    collection = image_folder.load(settings(root, root / "boxes", FOLDERS), 0)
    assert capsys.readouterr().err == f"note: {root}: skipped what is not a picture: 'README.txt'\n"
    assert collection.class_names == ["ant", "bee"]
    assert collection.labels.tolist() == [0] * 4 + [1] * 4 + [0] * 2 + [1] * 2
    assert collection.boxes is not None
    assert [name for name, of_one in zip(collection.names, collection.boxes, strict=True) if of_one] == [
        "test/bee/1.jpg"
    ]
    found = splits_of(collection, FOLDERS)
    assert found["test"] == ["test/ant/0.png", "test/ant/1.jpg", "test/bee/0.png", "test/bee/1.jpg"]
    assert {name: len(part) for name, part in found.items()} == {"train": 4, "validation": 4, "test": 4}
    folder_of_pictures(root / "validation", per_class=1, classes=("ant", "bee"))
    found = splits_of(image_folder.load(settings(root, None, FOLDERS), 0), FOLDERS)
    assert found["validation"] == ["validation/ant/0.png", "validation/bee/0.png"]
    assert len(found["train"]) == 8


def test_folders_named_after_splits_are_no_classes(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for name in ("train", "test"):
        folder_of_pictures(root / name, per_class=2, classes=("ant", "bee"))
    with pytest.raises(
        UserError, match=r"test: found no picture; allowed: .*; if the folders are splits, split\.test: "
    ):
        image_folder.load(settings(root), 0)


def test_a_split_in_folders_has_to_be_complete(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    folder_of_pictures(root / "test", per_class=2, classes=("ant", "bee"))
    with pytest.raises(
        UserError, match=r"pictures: found no folder 'train'; split\.test: folders needs train and test"
    ):
        image_folder.load(settings(root, None, FOLDERS), 0)
    folder_of_pictures(root / "train", per_class=2, classes=("ant", "bee", "cat"))
    collection = image_folder.load(settings(root, None, FOLDERS), 0)
    with pytest.raises(UserError, match=r"dataset pictures: the given test split has no image of class 'cat'"):
        draw_splits(collection, FOLDERS, 0, "pictures")


def test_a_split_in_a_table(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=3, classes=("ant", "bee"))
    rows = ["name,split", "", *(f"bee/{name},test" for name in ("0.png", "1.jpg")), "bee/2.png,train"]
    rows += ["ant/1.jpg,train", '"ant/2.png",validation', "ant/0.png,test"]
    (root / "splits.csv").write_text("\ufeff" + "\r\n".join(rows))
    collection = image_folder.load(settings(root, None, TABLE), 0)
    assert collection.names[:3] == ["ant/0.png", "ant/1.jpg", "ant/2.png"]
    assert collection.splits == ["test", "train", "validation", "test", "test", "train"]


ROWS = [f"{name}/{file},test" for name in ("ant", "bee") for file in ("0.png", "1.jpg")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file; split.test: table needs it, with the columns name and split"),
        ("", "row 1: found ''; allowed: name,split"),
        ("file,split\n", "row 1: found 'file,split'; allowed: name,split"),
        ("\0", "row 1: found '\\x00'; allowed: name,split"),
        (b"name,split\n\xff,test", "not a CSV file in UTF-8 ('utf-8' codec can't decode byte 0xff in position 11: "),
        ('name,split\n"ant', "not a CSV file in UTF-8 (unexpected end of data)"),
        ("name,split\nant/0.png\n", "row 2: found 1 values; allowed: 2"),
        ("name,split\n\nant/0.png,tests\n", "row 3: found the split 'tests'; allowed: train, validation, test"),
        (
            "name,split\nant/0.pgn,test\n",
            "row 2: found 'ant/0.pgn', which is not a picture below {root}, did you mean ",
        ),
        ("name,split\nant/0.png,test\nant/0.png,test\n", "row 3: found 'ant/0.png' a second time; allowed: one row "),
        ("\n".join(["name,split", *ROWS[:3]]), "found no row for 'bee/1.jpg'; allowed: one row per picture"),
    ],
)
def test_a_table_of_splits_that_is_wrong(text: str | bytes | None, message: str, tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=2, classes=("ant", "bee"))
    if text is not None:
        (root / "splits.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        image_folder.load(settings(root, None, TABLE), 0)
    assert str(caught.value).startswith(f"{root / 'splits.csv'}: {message.format(root=root)}")
    assert str(caught.value).isprintable()


VOC = """<annotation><folder>bee</folder><size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>
{objects}</annotation>"""


def voc(size: tuple[int, int], *boxes: tuple[object, object, object, object]) -> str:
    edges = ("xmin", "ymin", "xmax", "ymax")
    objects = [
        "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(edges, box, strict=True)).join(
            ("<object><name>bee</name><bndbox>", "</bndbox></object>")
        )
        for box in boxes
    ]
    return VOC.format(size=size, objects="".join(objects))


@pytest.mark.parametrize("beside", [True, False])
def test_image_folder_reads_boxes_as_imagenet_has_them(beside: bool, tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=3, classes=("ant", "bee"))
    assert image_folder.load(settings(root), 0).boxes is None
    boxes = root if beside else root / "Annotation"
    for name in ("ant", "bee"):
        (boxes / name).mkdir(parents=True, exist_ok=True)
    (boxes / "ant" / "2.xml").write_text(voc((48, 46), (1, 1, 1, 1), (3, 5, 20, 46)))
    (boxes / "bee" / "1.xml").write_text(voc((49, 43)))
    # Annotators' boxes that reach a pixel beyond the edge, and a file that does not say the size.
    (boxes / "bee" / "2.xml").write_text(re.sub("<size>.*</size>", "", voc((0, 0), (0, 7, 49, "9.5"))))
    collection = image_folder.load(settings(root, boxes), 0)
    assert collection.names == ["ant/0.png", "ant/1.jpg", "ant/2.png", "bee/0.png", "bee/1.jpg", "bee/2.png"]
    first = [Box(0, 0, 1, 1), Box(2, 4, 20, 46)]
    assert collection.boxes == [[], [], first, [], [], [Box(0, 6, 48, 9.5)]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (voc((48, 46), (2, 2, 9, 9)), "size: found 48 by 46 pixels; its picture has 49 by 43"),
        (voc((49, 43), (2, 2, 9, 9))[:-20], "not valid XML (unclosed token: line 2, column 97)"),
        ("<html/>", "found <html>; allowed: <annotation>"),
        (
            "<annotation><object><name>bee</name></object></annotation>",
            "object 1: found no <bndbox>; allowed: one per object",
        ),
        (
            "<annotation><size><width>49</width></size></annotation>",
            "size: height: found None; allowed: a number of pixels",
        ),
        (voc((49, 43), (2, 2, 9, 9), (2, "two", 9, 9)), "bndbox: ymin: found 'two'; allowed: a number of pixels"),
        (
            voc((49, 43), (2, 2, 9, 9), (9, 2, 2, 9)),
            "object 2: found a box from (8, 1) to (2, 9); allowed: one on its image of 49 by 43 pixels",
        ),
        (
            voc((49, 43), (60, 2, 70, 9)),
            "object 1: found a box from (59, 1) to (70, 9); allowed: one on its image of 49 by 43 pixels",
        ),
        ('<?xml version="1.0" encoding="foo"?>' + voc((49, 43)), "not valid XML (unknown encoding: foo)"),
        (
            voc((49, 43), (2, "nan", 9, 9)),
            "object 1: found a box from (1, nan) to (9, 9); allowed: one on its image of 49 by 43 pixels",
        ),
    ],
)
def test_image_folder_refuses_boxes_that_it_cannot_use(content: str, message: str, tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=2, classes=("ant", "bee"))
    file = root / "bee" / "1.xml"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        image_folder.load(settings(root, root), 0)
    assert str(caught.value) == f"{file}: {message}"


def test_image_folder_refuses_a_folder_without_boxes(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=2)
    with pytest.raises(
        UserError, match=r"params\.yaml: datasets\.\*\.boxes: found '.*missing', which is not a folder; allowed"
    ):
        image_folder.load(settings(root, root / "missing"), 0)
    with pytest.raises(UserError, match=r"boxes: found '.*elsewhere'; allowed: .*pictures, or a folder in it"):
        image_folder.load(settings(root, tmp_path / "elsewhere"), 0)
    (tmp_path / "elsewhere").mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    for outside in (root / ".." / "elsewhere", root / "link", root / "dark" / ".." / ".."):
        with pytest.raises(UserError, match=r"boxes: found '.*'; allowed: .*pictures, or a folder in it"):
            image_folder.load(settings(root, outside), 0)
    (root / "link").unlink()
    with pytest.raises(UserError, match=r"pictures: found no file of any picture; allowed: dark/0\.xml and the like"):
        image_folder.load(settings(root, root), 0)


def test_xml_that_expands_without_end_is_refused(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=2)
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    content = f'<!DOCTYPE annotation [<!ENTITY e0 "{"x" * 100}">{entities}]><annotation>&e9;</annotation>'
    (root / "dark" / "0.xml").write_text(content)
    with pytest.raises(UserError, match=r"dark/0\.xml: not valid XML \(limit on input amplification factor"):
        image_folder.load(settings(root, root), 0)
