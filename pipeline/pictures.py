"""The images of a dataset as a model sees them before perturbation."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.images import Pixels, decode_images
from pipeline.tables import read


def load(path: Path, images: Iterable[int], size: int, crop_fraction: float) -> dict[int, Pixels]:
    """Read some images at a model's size.

    Args:
        path: the table ``images`` of a dataset.
        images: the numbers of those wanted.
        size: side of the model's input in pixels.
        crop_fraction: see `pipeline.images.fit`.

    Returns:
        uint8 (size, size, 3) by image number.
    """
    table = read("images", path, sorted(set(images)))
    decoded = decode_images(table["encoded"], size, crop_fraction, str(path))
    return dict(zip(table["image"].tolist(), decoded, strict=True))


CHUNK = 64
"""Images decoded together."""


class Pictures(Mapping[int, Pixels]):
    """Images by their number, decoded once into a temporary file without a name, so that they take no memory.

    (Where the folder of temporary files is kept in memory, they do; ``TMPDIR`` names another.)
    """

    def __init__(self, path: Path, images: Iterable[int], size: int, crop_fraction: float) -> None:
        """Decode some images; the arguments are those of `load`."""
        wanted = sorted({int(image) for image in images})
        self._shape = (size, size, 3)
        self._bytes = size * size * 3
        self._place = {image: place for place, image in enumerate(wanted)}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the pictures are
        for start in range(0, len(wanted), CHUNK):
            for picture in load(path, wanted[start : start + CHUNK], size, crop_fraction).values():
                self._file.write(picture.tobytes())
        self._file.flush()

    def __getitem__(self, image: int) -> Pixels:
        # Reads from several threads share no position in the file.
        read = os.pread(self._file.fileno(), self._bytes, self._place[image] * self._bytes)
        return np.frombuffer(read, np.uint8).reshape(self._shape)

    def __iter__(self) -> Iterator[int]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)


def stack(pictures: dict[int, Pixels], splits: pd.DataFrame) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return the images and labels of some lines of the table ``splits`` as two arrays."""
    return np.stack([pictures[image] for image in splits["image"]]), splits["label"].to_numpy()
