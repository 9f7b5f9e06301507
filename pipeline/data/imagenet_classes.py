"""The 1,000 classes of ImageNet's challenge in the order of the class index, which is that of their WordNet IDs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.files import package_file
from pipeline.data.image_files import read_file

WNID = re.compile(r"n\d{8}")


@cache
def imagenet_classes() -> dict[str, str]:
    """Return the name of each class by its WordNet ID, in the order of the class index; no two have the same name."""
    with package_file(__file__, "imagenet_classes.csv").open(newline="", encoding="utf-8") as file:
        return {row["wnid"]: row["name"] for row in csv.DictReader(file)}


def class_names(known: Mapping[int, str], count: int) -> Mapping[int, str]:
    """Return names of a network's classes: all of ImageNet's where the known ones are some of these.

    Args:
        known: those that a dataset has images of, by their number; a network may predict others.
        count: how many the network tells apart.
    """
    every = dict(enumerate(imagenet_classes().values()))
    return every if len(every) == count and known.items() <= every.items() else known


def read_class_index(file: Path) -> dict[str, str]:
    """Read the classes of a network from a class-index file, such as Keras' ``imagenet_class_index.json``.

    Args:
        file: JSON, ``{"0": ["n01440764", "tench"], ...}``: WordNet ID and name of each class, by its number.

    Returns:
        As `imagenet_classes`; there may be any number of classes, in any order.

    Raises:
        UserError: the file is missing or not JSON, an entry is not such a pair, or the numbers are not 0, 1, 2, ...
    """
    try:
        content = json.loads(read_file(file))
    except ValueError as error:  # of JSON and of UTF-8
        raise UserError(file, f"not valid JSON ({error})") from None
    if not isinstance(content, dict) or len(content) < 2:
        raise UserError(
            file,
            f"found {(len(content) if isinstance(content, dict) else 'no')} classes",
            expected="a mapping of at least 2",
        )
    classes: dict[str, str] = {}
    for number in range(len(content)):
        match content.get(str(number)):
            case [str(wnid), str(name)] if WNID.fullmatch(wnid) and name:
                pass
            case found:
                raise UserError(
                    f'{file}: "{number}"',
                    f"found {json.dumps(found)}",
                    expected=f'a pair such as ["n01440764", "tench"], for each of 0 to {len(content) - 1}',
                )
        if wnid in classes:
            raise UserError(f'{file}: "{number}"', f"found {wnid} a second time", expected="each class once")
        classes[wnid] = name
    return classes
