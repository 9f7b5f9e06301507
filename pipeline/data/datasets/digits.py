"""scikit-learn's handwritten digits: 1,797 real scans of 8 by 8 pixels, inside the package (no download).

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from pipeline.data.dataset import Collection, Dataset, DatasetSettings, SplitSettings
from pipeline.data.decode import encode_png


class Settings(DatasetSettings):
    """The digits have only their split to choose."""

    split: SplitSettings


def load(settings: Settings, seed: int) -> Collection:
    """Return all digits, white ink on black, 8 by 8 pixels (the models' input size is reached when they are read)."""
    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    return Collection(
        class_names=[str(name) for name in bunch.target_names],
        names=[f"digit-{number:04d}" for number in range(len(pixels))],
        labels=bunch.target.astype(np.int64),
        images=[encode_png(one) for one in pixels],
    )


DATASET = Dataset(Settings, load)
