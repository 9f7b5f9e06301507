"""Pictures: decoded once to a file, and read from it one by one."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.core.files import sha256
from pipeline.core.tables import read, write
from pipeline.data.decode import decode_images, encode_png, fit, open_image
from pipeline.data.pictures import CHUNK, Selection, decode, open_pictures
from pipeline.data.prepared import IMAGES

SIDE = 24
COUNT = 2 * CHUNK + 22
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
CHOSEN = [149, 3, 77, 3]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "images.parquet"
    lines = [{"image": number, "encoded": encode_png(one), "mask": None} for number, one in enumerate(PIXELS)]
    write(IMAGES, path, IMAGES.from_lines(lines))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "pictures.npy").open("w+b") as opened:
        yield opened


def test_pictures_are_read_where_they_are_indexed(table: Path, file: BinaryIO) -> None:
    decoded = decode(table, CHOSEN, SIDE, (1.0, "bilinear"), file=file)
    assert list(decoded) == [3, 77, 149]
    assert len(decoded) == 3
    for number in decoded:
        np.testing.assert_array_equal(decoded[number], PIXELS[number])
    with pytest.raises(KeyError):
        decoded[4]
    selection = Selection(decoded, CHOSEN)
    assert selection.shape == (4, SIDE, SIDE, 3)
    assert len(selection) == 4
    np.testing.assert_array_equal(selection[np.array([2, 0])], PIXELS[[77, 149]])
    np.testing.assert_array_equal(selection[1:], PIXELS[[3, 77, 3]])


def test_the_order_of_the_table_does_not_matter_and_a_missing_image_is_named(
    table: Path, file: BinaryIO, tmp_path: Path
) -> None:
    frame = read(IMAGES, table)
    turned = tmp_path / "turned.parquet"
    write(IMAGES, turned, frame.iloc[::-1])
    decoded = decode(turned, CHOSEN, SIDE, (1.0, "bilinear"), file=file)
    np.testing.assert_array_equal(decoded[77], PIXELS[77])
    fewer = tmp_path / "fewer.parquet"
    write(IMAGES, fewer, frame[frame["image"] != 77])
    with pytest.raises(UserError, match=r"fewer\.parquet: there is no image 77; it is damaged"):
        decode(fewer, CHOSEN, SIDE, (1.0, "bilinear"), file=file)


def test_a_file_of_pictures_is_numpys_and_opened_again(table: Path, file: BinaryIO) -> None:
    decode(table, range(COUNT), SIDE, (1.0, "bilinear"), file=file)
    path = Path(file.name)
    np.testing.assert_array_equal(np.load(path), PIXELS)
    opened = open_pictures(path, range(COUNT), SIDE, sha256(path))
    np.testing.assert_array_equal(np.stack([opened[number] for number in range(COUNT)]), PIXELS)
    other = [10 * number for number in range(COUNT)]  # which images they are, the file does not say
    np.testing.assert_array_equal(open_pictures(path, other, SIDE, sha256(path))[30], PIXELS[3])


def test_pictures_are_brought_to_the_models_size(table: Path, file: BinaryIO) -> None:
    for crop, interpolation in ((1.0, "bilinear"), (0.5, "bicubic")):
        file.seek(0)
        found = decode(table, [7], 16, (crop, interpolation), file=file)[7]  # type: ignore[arg-type]
        expected = decode_images([encode_png(PIXELS[7])], 16, crop, "test", interpolation=interpolation)[0]  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, expected)
    assert found.shape == (16, 16, 3)


def test_files_of_other_pictures_are_refused(table: Path, file: BinaryIO, tmp_path: Path) -> None:
    decode(table, range(5), SIDE, (1.0, "bilinear"), file=file)
    path = Path(file.name)
    whole = path.read_bytes()
    for images, side in ((range(6), SIDE), (range(5), SIDE + 1)):
        with pytest.raises(
            UserError, match=r"found an array of uint8 of shape \(5, 24, 24, 3\) in 8640 bytes; allowed"
        ):
            open_pictures(path, images, side, sha256(path))
    for content, message in (
        (whole[:-1], r"in 8639 bytes; allowed: uint8 of shape \(5, 24, 24, 3\); it is damaged"),
        (whole + b"0", "in 8641 bytes; allowed"),
        (whole[:20], r"pictures\.npy: not a readable array of pictures \("),
        (b"", "not a readable array of pictures"),
        (whole.replace(b"|u1", b"|i1"), "found an array of int8"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            open_pictures(path, range(5), SIDE, sha256(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"none\.npy: there is no such file; `dvc repro` makes it"):
        open_pictures(tmp_path / "none.npy", range(5), SIDE, "0" * 64)


class Full(io.BytesIO):
    """A file on a disk without room for pictures."""

    def write(self, content: Any) -> int:
        if len(content) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


def test_pictures_that_do_not_fit_on_the_disk_are_one_line(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.pictures.tempfile.gettempdir", lambda: "/somewhere")
    message = r": 3 decoded images \(0\.0 GB\) could not be kept there \(No space left on device\); allowed: a disk"
    full = Full()
    with pytest.raises(UserError, match=r"^/somewhere \(TMPDIR\)" + message):
        decode(table, range(3), SIDE, (1.0, "bilinear"), file=full)
    full.name = "/somewhere/else/pictures.npy"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="^/somewhere/else" + message):
        decode(table, range(3), SIDE, (1.0, "bilinear"), file=full)


def test_a_picture_that_cannot_be_read_is_one_line(file: BinaryIO, tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    write(IMAGES, path, IMAGES.from_lines([{"image": 0, "encoded": b"GIF89a nonsense", "mask": None}]))
    with pytest.raises(UserError, match=r"images\.parquet: not a readable image \("):
        decode(path, [0], SIDE, (1.0, "bilinear"), file=file)


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


def test_png_is_lossless() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(open_image(encode_png(pixels), "test")), pixels)
