"""The loaders: good data, and one line for bad data."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from pipeline.datasets import Box, image_folder, shapes
from pipeline.errors import UserError
from pipeline.images import decode_images, encode_png, fit, open_image
from pipeline.params import SplitSettings
from pipeline.randomness import generator
from tests.world import folder_of_pictures

SPLIT = SplitSettings(validation=0.2, test=0.2)
AREA = shapes.AreaSettings(smallest=0.1, largest=0.25)


def drawn(count: int, size: int = 56) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    backgrounds = shapes.photographs()
    labels = np.arange(count) % len(shapes.CLASSES)
    pairs = [
        shapes.draw(generator(9, "test", i), backgrounds, int(label), size, AREA) for i, label in enumerate(labels)
    ]
    return np.stack([image for image, _ in pairs]), np.stack([mask > 0 for _, mask in pairs]), labels


def test_shapes_are_not_solvable_from_colour_or_size() -> None:
    images, masks, labels = drawn(600)
    areas = masks.mean(axis=(1, 2))[:, None]
    histograms = np.stack(
        [np.concatenate([np.histogram(image[..., c], 8, (0, 256))[0] for c in range(3)]) for image in images]
    )
    inside = np.stack([image[mask].mean(axis=0) for image, mask in zip(images, masks, strict=True)])
    for features, limit in ((areas, 0.16), (inside, 0.16), (histograms, 0.24)):
        forest = RandomForestClassifier(100, random_state=0)
        accuracy = cross_val_score(forest, features, labels, cv=3).mean()
        # Chance is 0.1; a histogram may tell one colour from two, which would be worth 0.2.
        assert accuracy < limit, f"{features.shape[1]} numbers reach {accuracy:.2f}"


def test_shapes_have_the_area_that_was_asked_for_and_stay_in_the_frame() -> None:
    _, masks, labels = drawn(200)
    areas = masks.mean(axis=(1, 2))
    assert areas.min() > AREA.smallest - 0.02
    assert areas.max() < AREA.largest + 0.02
    of_class = [areas[labels == label].mean() for label in range(len(shapes.CLASSES))]
    assert np.ptp(of_class) < 0.06
    border = masks[:, [0, -1]].any(axis=(1, 2)) | masks[:, :, [0, -1]].any(axis=(1, 2))
    assert border.mean() < 0.2


def test_masks_lie_on_the_object() -> None:
    rng_pairs = [(generator(3, i), generator(3, i)) for i in range(20)]
    dark = [np.zeros((200, 200, 3), np.uint8)]
    light = [np.full((200, 200, 3), 255, np.uint8)]
    for first, second in rng_pairs:
        on_dark, mask = shapes.draw(first, dark, 0, 48, AREA)
        on_light, _ = shapes.draw(second, light, 0, 48, AREA)
        outside = mask == 0
        # Far from the object the background shows; on the object it does not.
        assert (on_dark[outside] == 0).all(axis=-1).mean() > 0.9
        assert (on_light[outside] == 255).all(axis=-1).mean() > 0.9
        assert (on_dark[~outside].max(axis=-1) > 0).all()


def settings(source: Path, boxes: Path | None = None) -> image_folder.Settings:
    return image_folder.Settings(
        loader="image_folder", source=str(source), image_size=32, boxes=str(boxes) if boxes else None, split=SPLIT
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


def test_image_folder_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"datasets: source: found '.*missing', which is no folder"):
        image_folder.load(settings(tmp_path / "missing"), 0)
    with pytest.raises(UserError, match=r"found 0 class folder\(s\); at least 2"):
        image_folder.load(settings(tmp_path), 0)
    root = folder_of_pictures(tmp_path / "pictures", per_class=5)
    (root / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: found no picture; allowed: files ending in \.jpeg, \.jpg, \.png"):
        image_folder.load(settings(root), 0)
    (root / "empty").rmdir()
    whole = (root / "dark" / "0.png").read_bytes()
    for broken in (b"", b"GIF89a nonsense", whole[: len(whole) // 2]):
        (root / "dark" / "0.png").write_bytes(broken)
        with pytest.raises(UserError, match=r"dark/0\.png: not a readable image \(") as caught:
            image_folder.load(settings(root), 0)
        assert "\n" not in str(caught.value)


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
        ("<annotation><object><name>bee</name></object></annotation>",
         "object 1: found no <bndbox>; allowed: one an object"),
        ("<annotation><size><width>49</width></size></annotation>",
         "size: height: found None; allowed: a number of pixels"),
        (voc((49, 43), (2, 2, 9, 9), (2, "two", 9, 9)), "bndbox: ymin: found 'two'; allowed: a number of pixels"),
        (voc((49, 43), (2, 2, 9, 9), (9, 2, 2, 9)),
         "object 2: found a box from (8, 1) to (2, 9); allowed: one on its image of 49 by 43 pixels"),
        (voc((49, 43), (60, 2, 70, 9)),
         "object 1: found a box from (59, 1) to (70, 9); allowed: one on its image of 49 by 43 pixels"),
        (voc((49, 43), (2, "nan", 9, 9)),
         "object 1: found a box from (1, nan) to (9, 9); allowed: one on its image of 49 by 43 pixels"),
    ],
)  # fmt: skip
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
        UserError, match=r"params\.yaml: datasets: boxes: found '.*missing', which is no folder; allowed"
    ):
        image_folder.load(settings(root, root / "missing"), 0)
    with pytest.raises(UserError, match=r"boxes: found '.*elsewhere'; allowed: .*pictures, or a folder in it"):
        image_folder.load(settings(root, tmp_path / "elsewhere"), 0)
    with pytest.raises(UserError, match=r"pictures: found no file of any picture; allowed: dark/0\.xml and the like"):
        image_folder.load(settings(root, root), 0)


def test_xml_that_expands_without_end_is_refused(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", per_class=2)
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    content = f'<!DOCTYPE annotation [<!ENTITY e0 "{"x" * 100}">{entities}]><annotation>&e9;</annotation>'
    (root / "dark" / "0.xml").write_text(content)
    with pytest.raises(UserError, match=r"dark/0\.xml: not valid XML \(limit on input amplification factor"):
        image_folder.load(settings(root, root), 0)


def test_fit_takes_the_centre() -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:, 20:80] = 255
    assert (np.asarray(fit(Image.fromarray(picture), 30, 1.0, Image.Resampling.NEAREST)) == 255).all()
    cropped = fit(Image.fromarray(picture), 28, 0.875, Image.Resampling.NEAREST)
    assert cropped.size == (28, 28)
    small = decode_images([encode_png(picture[:8, :8])], 56, 1.0, "test")
    assert small.shape == (1, 56, 56, 3)


def test_deep_and_turned_pictures_are_brought_to_eight_bits_and_upright() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)).save(buffer, format="PNG")
    pixels = decode_images([buffer.getvalue()], 8, 1.0, "deep")[0, ..., 0]
    np.testing.assert_allclose(pixels.ravel(), np.linspace(0, 255, 64), atol=1)
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(buffer, format="JPEG", exif=exif)
    assert open_image(buffer.getvalue(), "turned").size == (10, 20)


def test_shapes_work_at_sizes_beyond_their_photographs() -> None:
    image, mask = shapes.draw(generator(0, "large"), shapes.photographs()[3:5], 1, 512, AREA)
    assert image.shape == (512, 512, 3)
    assert 0.08 < (mask > 0).mean() < 0.27


def test_png_is_lossless() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(open_image(encode_png(pixels), "test")), pixels)
