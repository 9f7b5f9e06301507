"""The pictures of a dataset as a model sees them before perturbation, kept in a file so that they take no memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.core.device import threads
from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED, check_sha256, missing
from pipeline.core.parallel import in_order
from pipeline.core.tables import read
from pipeline.data.decode import Interpolation, Pixels, decode_images
from pipeline.data.prepared import IMAGES

CHUNK = 64
"""Images decoded together."""


class Pictures(Mapping[int, Pixels]):
    """Pictures, uint8 (side, side, 3), by the number of their image; each is read when it is asked for."""

    def __init__(self, file: BinaryIO, images: Iterable[int], side: int, start: int) -> None:
        """Describe them.

        Args:
            file: where they lie one after the other, in the order of their numbers.
            images: their numbers, in ascending order.
            side: of the square pictures, in pixels.
            start: where in the file the first one begins.
        """
        self._file, self._start = file, start
        self._place = {image: place for place, image in enumerate(images)}
        self.shape = (side, side, 3)
        self._bytes = side * side * 3

    def __getitem__(self, image: int) -> Pixels:
        # Reads from several threads share no position in the file.
        read = os.pread(self._file.fileno(), self._bytes, self._start + self._place[image] * self._bytes)
        return np.frombuffer(read, np.uint8).reshape(self.shape)

    def __iter__(self) -> Iterator[int]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


def decode(
    table: Path, images: Iterable[int], side: int, fitting: tuple[float, Interpolation], *, file: BinaryIO
) -> Pictures:
    """Decode some images, resize them for a model and keep them in a file.

    Args:
        table: the table ``images`` of a dataset.
        images: the numbers of those wanted.
        side: of the model's input, in pixels.
        fitting: the part that is kept (see `pipeline.data.decode.fit`), and the filter that they are resized with.
        file: open for writing and reading; a NumPy array file (N, side, side, 3) of uint8 is written to it.

    Raises:
        UserError: an image cannot be read, or the file's disk is full.
    """
    crop_fraction, interpolation = fitting
    wanted = sorted({int(image) for image in images})
    chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]

    def decoded(chunk: list[int]) -> Pixels:
        found = read(IMAGES, table, chunk).set_index("image")["encoded"]
        absent = [image for image in chunk if image not in found.index]
        if absent:
            raise UserError(table, f"there is no image {absent[0]}", fix=DAMAGED)
        return decode_images(found.loc[chunk], side, crop_fraction, str(table), interpolation=interpolation)

    try:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(wanted), side, side, 3)}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        start = file.tell()
        with closing(in_order(decoded, chunks, threads())) as parts:
            for pictures in parts:
                file.write(pictures.tobytes())
        file.flush()
    except OSError as error:
        gigabytes = len(wanted) * side * side * 3 / 1e9
        place = getattr(file, "name", None)
        where = Path(place).parent if isinstance(place, str) else f"{tempfile.gettempdir()} (TMPDIR)"
        raise UserError(
            where,
            f"{len(wanted)} decoded images ({gigabytes:.1f} GB) could not be kept there ({error.strerror})",
            expected="a disk with room",
        ) from None
    return Pictures(file, wanted, side, start)


def open_pictures(path: Path, images: Iterable[int], side: int, checksum: str) -> Pictures:
    """Open a file that `decode` wrote.

    Args:
        path: the file.
        images: the numbers of its images.
        side: of the pictures, in pixels.
        checksum: SHA-256 of the file.

    Raises:
        UserError: the file is missing, is not an array of that many pictures of that size, or not the one written.
    """
    wanted = sorted({int(image) for image in images})
    try:
        file = path.open("rb")
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
        if version != (1, 0):
            raise ValueError(f"format {version}")
        shape, fortran, kind = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        raise missing(path) from None
    except Exception as error:  # NumPy reads the header as Python's own text: ValueError, TokenError, ...
        reason = " ".join(str(error).split())
        raise UserError(path, f"not a readable array of pictures ({reason})", fix=DAMAGED) from None
    expected = (len(wanted), side, side, 3)
    size = path.stat().st_size - file.tell()
    if shape != expected or fortran or kind != np.uint8 or size != int(np.prod(expected)):
        raise UserError(
            path,
            f"found an array of {kind} of shape {shape} in {size} bytes",
            expected=f"uint8 of shape {expected}",
            fix=DAMAGED,
        )
    check_sha256(path, checksum)
    return Pictures(file, wanted, side, file.tell())


class Selection:
    """Some pictures in some order, as an array that is read where it is indexed.

    Attributes:
        shape: (N, H, W, 3).
    """

    def __init__(self, pictures: Pictures, images: npt.ArrayLike) -> None:
        """Choose the images with these numbers."""
        self._pictures = pictures
        self._images = np.asarray(images, np.int64)
        self.shape: tuple[int, ...] = (len(self._images), *pictures.shape)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, positions: npt.NDArray[np.int64] | slice) -> Pixels:
        return np.stack([self._pictures[image] for image in self._images[positions].tolist()])
