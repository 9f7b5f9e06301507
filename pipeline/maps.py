"""The file of a cell's maps.

One NumPy array file (format 1.0): (rows, H, W) in C order, little endian, in the type that the method declares; map
number i belongs to row i of the plan and to line i of the index. float16 holds maps in [0, 1] to 2**-11; int8 holds
ternary maps. `numpy.load(path, mmap_mode="r")` reads any map without the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError


def create_maps(path: Path, kind: str, rows: int, side: int) -> np.memmap[Any, Any]:
    """Make the file and return its array, (rows, side, side), which is on disk and not in memory."""
    return np.lib.format.open_memmap(path, "w+", np.dtype(kind), (rows, side, side))  # type: ignore[no-untyped-call]


def open_maps(path: Path, rows: int) -> npt.NDArray[Any]:
    """Open a cell's maps without reading them.

    Raises:
        UserError: the file is missing, cut short or of another shape than its index says.
    """
    try:
        maps = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; `dvc repro` makes it") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable array of maps ({' '.join(str(error).split())})") from None
    if maps.ndim != 3 or len(maps) != rows:
        raise UserError(f"{path}: found an array of shape {maps.shape}; allowed: ({rows}, height, width)")
    return maps
