"""The images of a dataset as a model sees them before perturbation."""

from __future__ import annotations

from collections.abc import Iterable
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


def stack(pictures: dict[int, Pixels], splits: pd.DataFrame) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return the images and labels of some lines of the table ``splits`` as two arrays."""
    return np.stack([pictures[image] for image in splits["image"]]), splits["label"].to_numpy()
