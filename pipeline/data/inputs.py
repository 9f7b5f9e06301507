"""The inputs of rows: pictures, perturbed as the plan says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.data.decode import Pixels
from pipeline.data.perturb import apply_each


class Inputs:
    """The perturbed pictures of some rows, made when they are asked for."""

    def __init__(self, rows: pd.DataFrame, pictures: Mapping[int, Pixels]) -> None:
        """Describe them.

        Args:
            rows: a table with the columns ``image``, ``transform`` and ``magnitude``.
            pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        """
        self._images = rows["image"].to_numpy()
        self._transforms = rows["transform"].to_numpy(dtype=object)
        self._magnitudes = rows["magnitude"].to_numpy(dtype=np.float64, na_value=np.nan)
        self._pictures = pictures
        self.side: int = next(iter(pictures.values())).shape[0]

    def pixels(self, positions: npt.NDArray[np.int64]) -> Pixels:
        """Return the inputs of the rows at some positions, uint8 (B, H, W, 3)."""
        originals = np.stack([self._pictures[image] for image in self._images[positions].tolist()])
        return apply_each(originals, self._transforms[positions], self._magnitudes[positions])
