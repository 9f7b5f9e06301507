"""The development kit of ILSVRC 2012, which says what ImageNet's validation images show.

Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 115, 2015.
"""

from __future__ import annotations

from pathlib import Path

from scipy.io import loadmat

from pipeline.core.errors import UserError
from pipeline.data.image_files import read_file
from pipeline.data.unpacking import reason

GROUND_TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
FIELDS = ("ILSVRC2012_ID", "WNID", "num_children")


def read_devkit(folder: Path) -> list[str]:
    """Return the class of every validation image.

    The kit numbers the classes in an order of its own, which is not that of the class index.

    Args:
        folder: the kit's folder ``data``, with its two files.

    Returns:
        WordNet IDs, that of ``ILSVRC2012_val_00000001`` first.

    Raises:
        UserError: one of the files is missing or damaged, or the first names a class that the second has not.
    """
    truth = folder / GROUND_TRUTH
    wnids = _read_meta(folder / META)
    labels = []
    for number, line in enumerate(read_file(truth).decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) in wnids):
            raise UserError(
                f"{truth}: line {number}",
                f"found {line[:80]!r}",
                expected=f"the number of a class in {META}, {min(wnids)} to {max(wnids)}",
            )
        labels.append(wnids[int(text)])
    if not labels:
        raise UserError(truth, "found no lines", expected="one per image")
    return labels


def _read_meta(file: Path) -> dict[int, str]:
    """Return the WordNet ID of each class by the kit's number; what has children is a group of classes and left out."""
    read_file(file)
    try:
        synsets = loadmat(file, squeeze_me=True, variable_names=["synsets"])["synsets"]
        rows = zip(*(synsets[field] for field in FIELDS), strict=True)
        found = {int(number): str(wnid) for number, wnid, children in rows if int(children) == 0}
    except Exception as error:  # the parser trips over damage in its own ways: TypeError, struct.error, KeyError ...
        raise UserError(
            file,
            f"not the kit's list of classes ({reason(error)})",
            expected=f"a MATLAB file with synsets of {', '.join(FIELDS)}",
        ) from None
    if not found:
        raise UserError(file, "found no classes", expected="synsets without children")
    return found
