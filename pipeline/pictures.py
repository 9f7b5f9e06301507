"""The images of a dataset as a model sees them before perturbation."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.compute import threads
from pipeline.errors import UserError
from pipeline.images import Pixels, decode_images
from pipeline.parallel import in_order
from pipeline.tables import read

CHUNK = 64
"""Images decoded together."""


class Pictures(Mapping[int, Pixels]):
    """Images by their number, decoded once into a temporary file without a name, so that they take no memory.

    (Where the folder of temporary files is kept in memory, they do; ``TMPDIR`` names another.)
    """

    def __init__(self, path: Path, images: Iterable[int], size: int, crop_fraction: float) -> None:
        """Decode some images.

        Args:
            path: the table ``images`` of a dataset.
            images: the numbers of those wanted.
            size: side of the model's input in pixels.
            crop_fraction: see `pipeline.images.fit`.
        """
        wanted = sorted({int(image) for image in images})
        self.shape = (size, size, 3)
        self._bytes = size * size * 3
        self._place = {image: place for place, image in enumerate(wanted)}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the pictures are
        chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]

        def decode(chunk: list[int]) -> Pixels:
            return decode_images(read("images", path, chunk)["encoded"], size, crop_fraction, str(path))

        try:
            with closing(in_order(decode, chunks, threads())) as decoded:
                for pictures in decoded:
                    self._file.write(pictures.tobytes())
            self._file.flush()
        except OSError as error:
            gigabytes = len(wanted) * self._bytes / 1e9
            raise UserError(f"{tempfile.gettempdir()}: {len(wanted)} decoded images ({gigabytes:.1f} GB) could not be "
                            f"kept there ({error.strerror}); allowed: one with room (TMPDIR)") from None  # fmt: skip

    def __getitem__(self, image: int) -> Pixels:
        # Reads from several threads share no position in the file.
        read = os.pread(self._file.fileno(), self._bytes, self._place[image] * self._bytes)
        return np.frombuffer(read, np.uint8).reshape(self.shape)

    def __iter__(self) -> Iterator[int]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


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
