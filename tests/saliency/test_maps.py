"""Maps on disk: written in any order, read one by one, enlarged by the kind of their values."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from pytorch_grad_cam.utils.image import scale_cam_image

from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED
from pipeline.saliency.map_file import Maps, MapsWriter, Values, decode, digest, encode, enlarge


def written(path: Path, maps: np.ndarray, kind: str = "float32") -> pd.DataFrame:
    """Write maps, and return their index."""
    with MapsWriter(path, kind, len(maps)) as writer:
        writer.write(np.arange(len(maps)), maps)
    return writer.described().assign(row=10 * np.arange(len(maps)))


@pytest.mark.parametrize(
    ("kind", "values"), [("float16", "signed"), ("float32", "signed"), ("int8", "ternary"), ("float16", "unit")]
)
def test_what_is_written_is_read_by_us_and_by_numpy(kind: str, values: Values, tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    maps = np.random.default_rng(0).integers(-1, 2, (5, 3, 4)).astype(np.float32)
    maps[3] = 1
    with MapsWriter(path, kind, 5) as writer:
        for part in ([3, 1], [0], [4, 2]):
            stored = writer.write(np.array(part), maps[part])
            assert stored.dtype == kind
            np.testing.assert_array_equal(stored, maps[part])
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), maps)
    index = writer.described()
    assert index["minimum"].tolist() == maps.min(axis=(1, 2)).tolist()
    assert index["maximum"].tolist() == maps.max(axis=(1, 2)).tolist()
    assert index["flat"].tolist() == [False, False, False, True, False]
    opened = Maps(path, index.assign(row=range(5)), values, 4)
    assert len(opened) == 5
    assert opened.shape == (5, 3, 4)
    for position in range(5):
        np.testing.assert_array_equal(opened[position], maps[position])
        assert opened[position].dtype == kind
    for beyond in (-1, 5):
        with pytest.raises(IndexError):
            opened[beyond]


def test_bytes_hold_square_roots(tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    maps = np.random.default_rng(0).random((2, 40, 40)).astype(np.float32) ** 4  # most values are small
    with MapsWriter(path, "uint8", 2) as writer:
        stored = writer.write(np.arange(2), maps)
    opened = Maps(path, writer.described().assign(row=range(2)), "unit", 40)
    raw, read = np.load(path), np.stack([opened[number] for number in range(2)])
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


def test_files_that_hold_no_such_maps_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    index = written(path, np.zeros((3, 4, 4)), "float16")
    all_bytes = path.read_bytes()
    allowed = r"allowed: \(5, height, width\), with at most 4 pixels a side"
    with pytest.raises(UserError, match=rf"found an array of shape \(3, 4, 4\); {allowed}"):
        Maps(path, index.reindex(range(5)), "unit", 4)
    with pytest.raises(UserError, match=r"found an array of shape \(3, 4, 4\); .* at most 3 pixels a side"):
        Maps(path, index, "unit", 3)
    with pytest.raises(UserError, match=r"found maps of type <f2; allowed: int8, little endian, for ternary values"):
        Maps(path, index, "ternary", 4)
    with pytest.raises(UserError, match=r"none\.npy: there is no such file; `dvc repro` makes it"):
        Maps(tmp_path / "none.npy", index, "unit", 4)
    for content in (all_bytes[:-1], all_bytes + b"0"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"maps.npy: found {len(content)} bytes; allowed: {len(all_bytes)}"):
            Maps(path, index, "unit", 4)
    path.write_bytes(all_bytes[:20])
    with pytest.raises(UserError, match="not a readable array of maps"):
        Maps(path, index, "unit", 4)


ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NaN": lambda maps: np.full_like(maps, np.nan),
    "infinite": lambda maps: np.where(maps > 0.5, np.inf, maps).astype(maps.dtype),
    "one bit": lambda maps: maps + np.float32(2**-24) * (np.arange(maps.size).reshape(maps.shape) == 5),
    "scaled": lambda maps: maps / 2,
    "of another size": lambda maps: maps[:, :3, :3],
    "huge": lambda maps: maps * np.float32(1e30),
    "negative": lambda maps: -maps,
    "zeroed from the second on": lambda maps: np.concatenate([maps[:1], 0 * maps[1:]]),
    "in another order": lambda maps: maps[[2, 1, 0]],
    "transposed": lambda maps: maps.transpose(0, 2, 1),
    "in Fortran's order": np.asfortranarray,
    "double": lambda maps: maps.astype(np.float64),
    "half": lambda maps: maps.astype(np.float16),
    "big-endian": lambda maps: maps.astype(">f4"),
    "bytes": lambda maps: (255 * maps).astype(np.uint8),
    "whole numbers": lambda maps: maps.astype(np.int64),
    "truth values": lambda maps: maps > 0.5,
    "complex": lambda maps: maps.astype(np.complex64),
    "text": lambda maps: maps.astype("U4"),
    "records": lambda maps: maps.view([("value", "<f4")]),
    "dates": lambda maps: maps.astype("datetime64[s]"),
    "objects": lambda maps: maps.astype(object),
    "one map": lambda maps: maps[0],
    "empty": lambda maps: maps[:, :0],
}


@pytest.mark.parametrize("damage", ARRAYS)
def test_other_maps_than_those_written_are_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    maps = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    index = written(path, maps)
    np.save(path, maps)  # NumPy's own files are as good
    np.testing.assert_array_equal(np.stack([Maps(path, index, "unit", 4)[at] for at in range(3)]), maps)
    np.save(path, ARRAYS[damage](maps), allow_pickle=True)
    with pytest.raises(UserError) as caught:
        [Maps(path, index, "unit", 4)[at] for at in range(3)]
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(DAMAGED)
    assert "\n" not in message


@pytest.mark.parametrize(
    "change", [{"minimum": 0.1}, {"maximum": 0.9}, {"flat": True}, {"digest": "0123456789abcdef"}], ids=str
)
def test_an_index_that_says_something_else_is_noticed(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "maps.npy"
    index = written(path, np.linspace(0, 1, 27).reshape(3, 3, 3))
    index.loc[1, list(change)] = list(change.values())
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: the map of row 10 .*; {re.escape(DAMAGED)}$"):
        Maps(path, index, "unit", 3)[1]


def test_a_digest_tells_type_and_shape_apart() -> None:
    same = np.zeros((2, 8), np.uint8)
    kinds = [same, same.reshape(8, 2), same.view(np.int8), same.view("<f2"), same.view(">f2")]
    assert len({digest(one, 0.0, 0.0) for one in kinds}) == len(kinds)
    assert len({digest(same, *ends) for ends in ((0.0, 0.0), (0.0, 0.1), (-0.1, 0.0))}) == 3


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
