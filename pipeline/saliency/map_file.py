"""The file of a cell's maps.

One NumPy array file (format 1.0): (rows, h, w) in C order, little endian, in the type that the method declares; map
number i belongs to row i of the index. uint8 holds maps in [0, 1] as their square roots in 255 steps, which keeps
apart the many small values of a gradient's map; int8 holds ternary maps, float16 and float32 the values themselves.
A map may be stored as small as the layer that it comes from, and is enlarged when it is read (`enlarge`).

Maps are written and read one by one, so that memory does not grow with their number. `numpy.load` reads them too. The
index has a digest of every map, which is compared when the map is read: a damaged file becomes an error and no score.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED, FULL, missing

Map = npt.NDArray[np.float64]
Values = Literal["unit", "signed", "ternary"]
"""Kinds of values: unit are in [0, 1], signed in [-1, 1], ternary are -1, 0 or 1."""
StorageType = Literal["float16", "float32", "int8", "uint8"]
STORED_AS: dict[Values, tuple[StorageType, ...]] = {
    "unit": ("uint8", "float16", "float32"),
    "signed": ("float16", "float32"),
    "ternary": ("int8",),
}
"""Types that can hold each kind of values, the usual one first."""

EPSILON = 1e-7
"""What grad-cam adds to a map's greatest value before dividing by it."""


SQUARES = ((np.arange(256) / 255) ** 2).astype(np.float16)
"""What a stored byte stands for; as halves these 256 values are all different."""


def encode(maps: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Return maps in the type that they are stored in, little endian.

    Args:
        maps: float32; in [0, 1] where the type is uint8, and -1, 0 and 1 where it is int8.
        kind: NumPy's name of the type.
    """
    stored = np.rint(np.sqrt(np.clip(maps, 0, 1)) * 255) if kind == "uint8" else maps
    return np.ascontiguousarray(stored, np.dtype(kind).newbyteorder("<"))


def decode(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values of stored maps: float16 for bytes, anything else as it is.

    >>> decode(encode(np.array([[0, 0.5], [0.25, 1]], np.float32), "uint8"))
    array([[0.    , 0.4983],
           [0.252 , 1.    ]], dtype=float16)
    """
    return SQUARES[stored] if stored.dtype == np.uint8 else stored


def digest(stored: npt.NDArray[Any], least: float, greatest: float) -> str:
    """Return the digest of a stored map, 16 hexadecimal digits: the CRC-32 of its bytes, and that of all else.

    Args:
        stored: (h, w).
        least: its least value, as the index has it.
        greatest: its greatest value likewise.
    """
    return f"{zlib.crc32(stored.data):08x}{_description(stored.dtype, stored.shape, least, greatest)}"


def _description(kind: np.dtype[Any], shape: tuple[int, ...], least: float, greatest: float) -> str:
    """Return the second half of a digest, which can be compared without reading the map."""
    return f"{zlib.crc32(f'{kind.str} {shape} {least!r} {greatest!r}'.encode()):08x}"


class MapsWriter:
    """Writes maps in any order; a context, at whose end every map must have been written."""

    def __init__(self, path: Path, kind: str, rows: int) -> None:
        """Begin a file.

        Args:
            path: the file.
            kind: NumPy's name of the stored type.
            rows: how many maps there will be; the first ones to come say how large they are.
        """
        self._type = np.dtype(kind).newbyteorder("<")
        self._missing = np.ones(rows, bool)
        self._least, self._greatest = np.zeros(rows), np.zeros(rows)
        self._digests = [""] * rows
        self._shape: tuple[int, ...] | None = None
        self._file: BinaryIO = path.open("wb")

    def write(self, positions: npt.NDArray[np.int64], maps: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Write maps (B, h, w) at their positions and return their values as they will be read.

        Raises:
            ValueError: they have another shape than those before.
        """
        stored = encode(maps, self._type.name)
        if self._shape is None:
            self._shape = stored.shape[1:]
            header = {"descr": self._type.str, "fortran_order": False, "shape": (len(self._missing), *self._shape)}
            np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]
            self._start = self._file.tell()
            self._reserve(self._start + len(self._missing) * stored[0].nbytes)
        if stored.shape[1:] != self._shape:
            raise ValueError(f"found maps of shape {stored.shape[1:]} after maps of shape {self._shape}")
        for position, one in zip(positions.tolist(), stored, strict=True):
            self._file.seek(self._start + position * one.nbytes)
            self._file.write(one.data)
            least, greatest = extremes(one)
            self._least[position], self._greatest[position] = least, greatest
            self._digests[position] = digest(one, least, greatest)
        self._missing[positions] = False
        return decode(stored)

    def described(self) -> pd.DataFrame:
        """Return what the index says of the maps: the columns ``minimum``, ``maximum``, ``flat`` and ``digest``."""
        flat = self._least == self._greatest
        columns = {"minimum": self._least, "maximum": self._greatest, "flat": flat, "digest": self._digests}
        return pd.DataFrame(columns)

    def _reserve(self, size: int) -> None:
        """Claim the whole file's place on disk, so that a disk without room is found out before the work is done."""
        try:
            self._file.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in FULL:
                return  # a file system that cannot claim place finds out when it is written to
            free = shutil.disk_usage(Path(self._file.name).parent).free
            raise UserError(
                self._file.name,
                f"{len(self._missing)} maps take {size / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free "
                f"({error.strerror})",
                expected="a disk with room",
            ) from None

    def __enter__(self) -> MapsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if kind is None and self._missing.any():
            raise ValueError(f"map {self._missing.argmax()} was never written")


class Maps(Sequence[npt.NDArray[Any]]):
    """The maps of a file, (h, w) each, read when they are asked for and compared with what the index says of them."""

    def __init__(self, path: Path, index: pd.DataFrame, values: Values, side: int) -> None:
        """Open a cell's maps.

        Args:
            path: the file.
            index: the table ``index`` (`pipeline.saliency.explanations.INDEX`), one row per map.
            values: what kind of values they have.
            side: of the images that they explain, in pixels; no map is larger.

        Raises:
            UserError: the file is missing, cut short, of another shape than its index says, or of a type that does not
                hold such values.
        """
        self._path = path
        try:
            self._file = path.open("rb")
            version = np.lib.format.read_magic(self._file)  # type: ignore[no-untyped-call]
            if version != (1, 0):
                raise ValueError(f"format {version}")
            shape, fortran, self.dtype = np.lib.format.read_array_header_1_0(self._file)  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            raise missing(path) from None
        except Exception as error:  # NumPy reads the header as Python's own text: ValueError, TokenError, ...
            reason = " ".join(str(error).split())
            raise UserError(path, f"not a readable array of maps ({reason})", fix=DAMAGED) from None
        if len(shape) != 3 or shape[0] != len(index) or fortran or not all(0 < length <= side for length in shape[1:]):
            raise UserError(
                path,
                f"found an array of shape {shape}",
                expected=f"({len(index)}, height, width), with at most {side} pixels a side",
                fix=DAMAGED,
            )
        if self.dtype.name not in STORED_AS[values] or self.dtype != self.dtype.newbyteorder("<"):
            raise UserError(
                path,
                f"found maps of type {self.dtype.str}",
                expected=f"{', '.join(STORED_AS[values])}, little endian, for {values} values",
                fix=DAMAGED,
            )
        self.shape: tuple[int, int, int] = shape
        self._start = self._file.tell()
        self._bytes = shape[1] * shape[2] * self.dtype.itemsize
        found, expected = path.stat().st_size, self._start + len(index) * self._bytes
        if found != expected:
            raise UserError(path, f"found {found} bytes", expected=f"{expected}, as its header says", fix=DAMAGED)
        self._rows = index["row"].tolist()
        self._expected = [int(one[:8], 16) for one in index["digest"]]
        columns = (index[name].tolist() for name in ("row", "minimum", "maximum", "flat", "digest"))
        for row, least, greatest, flat, known in zip(*columns, strict=True):
            if known[8:] != _description(self.dtype, shape[1:], least, greatest) or flat != (least == greatest):
                raise UserError(
                    path,
                    f"the map of row {row} is of another type or size, or has other values, than its index says",
                    fix=DAMAGED,
                )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, position: Any) -> Any:
        """Return a map; one that is not what its index says is a `UserError`."""
        at = int(position)
        if not 0 <= at < len(self):
            raise IndexError(position)
        # Reads from several threads share no position in the file.
        read = os.pread(self._file.fileno(), self._bytes, self._start + at * self._bytes)
        if len(read) != self._bytes:
            raise UserError(self._path, "the file was cut short while it was read", fix=DAMAGED)
        if zlib.crc32(read) != self._expected[at]:
            where = f"{self._path}: the map of row {self._rows[at]}"
            raise UserError(where, "not the one that was written (the digest in the index is another)", fix=DAMAGED)
        stored = np.frombuffer(read, self.dtype).reshape(self.shape[1:])
        return decode(stored)


def extremes(stored: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the least and the greatest value of a stored map, once it is decoded."""
    # NumPy compares halves one by one in software, and single precision many at a time.
    plain = stored.astype(np.float32) if stored.dtype == np.float16 else stored
    low, high = plain.min(), plain.max()
    return (float(SQUARES[low]), float(SQUARES[high])) if stored.dtype == np.uint8 else (float(low), float(high))


@lru_cache(maxsize=8)
def _bilinear(small: int, large: int) -> Map:
    """Return the matrix (large, small) that resizes a column bilinearly, pixel centres at halves."""
    centres = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    before = np.minimum(centres.astype(np.int64), max(small - 2, 0))
    part = centres - before
    matrix = np.zeros((large, small))
    matrix[np.arange(large), before] = 1 - part
    matrix[np.arange(large), np.minimum(before + 1, small - 1)] += part
    return matrix


def enlarge(stored: npt.NDArray[Any], side: int, values: Values) -> Map:
    """Return a stored map at the size of its image; one of that size already is left as it is.

    Unit maps are resized bilinearly and scaled to [0, 1] again, as grad-cam does. Signed maps are resized bilinearly
    and not scaled. Ternary maps are resized to the nearest value.

    Args:
        stored: (h, w).
        side: of the image, in pixels.
        values: what kind of values the map has.

    Returns:
        float64 (side, side).

    >>> enlarge(np.array([[0, 1], [0, 0]], np.float32), 4, "unit").round(2)
    array([[0.  , 0.25, 0.75, 1.  ],
           [0.  , 0.19, 0.56, 0.75],
           [0.  , 0.06, 0.19, 0.25],
           [0.  , 0.  , 0.  , 0.  ]])
    """
    smaller = stored.astype(np.float64)
    if smaller.shape == (side, side):
        return smaller
    if values == "ternary":
        down, across = (((np.arange(side) + 0.5) * length / side).astype(np.int64) for length in smaller.shape)
        return smaller[down[:, None], across[None, :]]
    resized = _bilinear(smaller.shape[0], side) @ smaller @ _bilinear(smaller.shape[1], side).T
    if values == "signed":
        return resized
    resized -= resized.min()
    return resized / (EPSILON + resized.max())
