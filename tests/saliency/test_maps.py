"""Maps on disk: written in any order, read one by one, enlarged by the kind of their values."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_grad_cam.utils.image import scale_cam_image

from pipeline.core.errors import UserError
from pipeline.saliency.map_file import Maps, MapsWriter, Values, decode, encode, enlarge


@pytest.mark.parametrize("kind", ["float16", "float32", "int8"])
def test_what_is_written_is_read_by_us_and_by_numpy(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    maps = np.random.default_rng(0).integers(-1, 2, (5, 3, 4)).astype(np.float32)
    with MapsWriter(path, kind, 5) as writer:
        for part in ([3, 1], [0], [4, 2]):
            stored = writer.write(np.array(part), maps[part])
            assert stored.dtype == kind
            np.testing.assert_array_equal(stored, maps[part])
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), maps)
    opened = Maps(path, 5)
    assert len(opened) == 5
    assert opened.shape == (5, 3, 4)
    for position in range(5):
        np.testing.assert_array_equal(opened[position], maps[position])
        assert opened[position].dtype == kind
    np.save(path, maps.astype(kind))  # NumPy's own files are read too
    np.testing.assert_array_equal(Maps(path, 5)[2], maps[2])


def test_bytes_hold_square_roots(tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    maps = np.random.default_rng(0).random((2, 40, 40)).astype(np.float32) ** 4  # most values are small
    with MapsWriter(path, "uint8", 2) as writer:
        stored = writer.write(np.arange(2), maps)
    raw, read = np.load(path), np.stack([Maps(path, 2)[number] for number in range(2)])
    assert raw.dtype == np.uint8
    assert path.stat().st_size == 128 + maps.size
    np.testing.assert_array_equal(raw, np.rint(255 * np.sqrt(maps)))
    np.testing.assert_array_equal(read, stored)
    np.testing.assert_allclose(read.astype(float), (raw / 255.0) ** 2, rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(read.astype(float)), np.sqrt(maps), atol=0.5 / 255 + 1e-3)


def test_every_byte_is_a_value_of_its_own() -> None:
    values = decode(np.arange(256, dtype=np.uint8)).astype(float)
    assert (np.diff(values) > 0).all()
    assert (values[0], values[-1]) == (0, 1)
    np.testing.assert_array_equal(encode(values.astype(np.float32), "uint8"), np.arange(256))


def test_a_map_that_was_never_written_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    with pytest.raises(ValueError, match="map 1 was never written"), MapsWriter(path, "int8", 3) as writer:
        writer.write(np.array([0, 2]), np.zeros((2, 4, 4)))
    wrong = r"shape \(5, 5\) after maps of shape \(4, 4\)"
    with pytest.raises(ValueError, match=wrong), MapsWriter(path, "int8", 3) as writer:
        writer.write(np.array([0, 2]), np.zeros((2, 4, 4)))
        writer.write(np.array([1]), np.zeros((1, 5, 5)))


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    with MapsWriter(path, "float16", 3) as writer:
        writer.write(np.arange(3), np.zeros((3, 4, 4)))
    whole = path.read_bytes()
    with pytest.raises(UserError, match=r"found an array of shape \(3, 4, 4\); allowed: \(5, height, width\)"):
        Maps(path, 5)
    with pytest.raises(UserError, match="no such file"):
        Maps(tmp_path / "none.npy", 3)
    for content in (whole[:-1], whole + b"0"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"maps.npy: found {len(content)} bytes; allowed: {len(whole)}"):
            Maps(path, 3)
    path.write_bytes(whole[:20])
    with pytest.raises(UserError, match="not a readable array of maps"):
        Maps(path, 3)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (1, 1), (14, 7), (2, 56), (3, 1)])
def test_enlarged_as_grad_cam_does(height: int, width: int) -> None:
    small = np.random.default_rng(1).random((height, width)).astype(np.float32)
    resized = F.interpolate(torch.from_numpy(small)[None, None], (56, 56), mode="bilinear", align_corners=False)[0, 0]
    expected = scale_cam_image(resized.numpy()[None])[0]
    np.testing.assert_allclose(enlarge(small, 56, "unit"), expected, atol=1e-6 if small.size > 1 else 1)
    if small.size > 1:
        theirs = scale_cam_image(scale_cam_image(small[None], (56, 56)))[0]  # once at each size
        np.testing.assert_allclose(enlarge(small, 56, "unit"), theirs, atol=1e-5)
        assert enlarge(small, 56, "unit").max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("values", get_args(Values))
def test_a_map_of_full_size_stays_as_it_is(values: Values) -> None:
    full = np.random.default_rng(1).integers(-1, 2, (9, 9)).astype(np.float16)
    np.testing.assert_array_equal(enlarge(full, 9, values), full)
    assert (enlarge(np.zeros((3, 3)), 9, values) == 0).all()


def test_signed_maps_are_enlarged_and_not_scaled() -> None:
    small = np.random.default_rng(1).uniform(-0.02, 0.01, (7, 5)).astype(np.float32)
    found = enlarge(small, 56, "signed")
    expected = F.interpolate(torch.from_numpy(small)[None, None], (56, 56), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert small.min() <= found.min() < -0.01 < 0 < found.max() <= small.max()
    np.testing.assert_allclose(enlarge(-small, 56, "signed"), -found)
    np.testing.assert_allclose(enlarge(np.full((3, 3), -0.25), 56, "signed"), -0.25)


@pytest.mark.parametrize(("height", "width", "side"), [(7, 7, 56), (2, 3, 7), (1, 1, 5), (5, 4, 11)])
def test_ternary_maps_are_enlarged_to_the_nearest_value(height: int, width: int, side: int) -> None:
    small = np.random.default_rng(1).integers(-1, 2, (height, width)).astype(np.int8)
    expected = F.interpolate(torch.from_numpy(small)[None, None].float(), (side, side), mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(enlarge(small, side, "ternary"), expected)
    assert enlarge(small, side, "ternary").dtype == np.float64


class Disk:
    """A disk with room for some bytes, claimed as `os.posix_fallocate` does."""

    def __init__(self, room: int) -> None:
        self.room = room

    def claim(self, file: int, start: int, size: int) -> None:
        if size > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_without_room_is_found_out_with_the_first_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "maps.npy"
    take = 128 + 2_000_000 * 9 * 2
    monkeypatch.setattr(os, "posix_fallocate", Disk(take - 1).claim)
    with pytest.raises(UserError) as caught, MapsWriter(path, "float16", 2_000_000) as writer:
        writer.write(np.array([7]), np.zeros((1, 3, 3)))
    assert re.fullmatch(
        rf"{re.escape(str(path))}: 2000000 maps take 0\.036 GB, and [\d.e+]+ GB are free \(No space left on device\); "
        "allowed: a disk with room",
        str(caught.value),
    )


def test_the_place_of_all_maps_is_claimed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda file, start, size: claimed.append(size))
    with MapsWriter(tmp_path / "maps.npy", "int8", 3) as writer:
        writer.write(np.array([2]), np.zeros((1, 4, 4)))
        writer.write(np.array([0, 1]), np.ones((2, 4, 4)))
    assert claimed == [128 + 3 * 16] == [(tmp_path / "maps.npy").stat().st_size]
