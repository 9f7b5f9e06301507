"""Which images train, validate and test: drawn once from the seed, class by class, unless all of them test."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.core.randomness import generator
from pipeline.data.dataset import Collection, SplitSettings
from pipeline.data.prepared import SPLIT_NAMES

LEAST_IMAGES_PER_CLASS = 5
"""Where test and validation are both drawn from them."""


def draw_splits(collection: Collection, settings: SplitSettings | None, seed: int, dataset: str) -> pd.DataFrame:
    """Assign every image to a split.

    Each class gives the rounded fractions of its images, and at least one, to test and validation, so that every
    class is present everywhere. If ``settings.test`` names a given split (``official``, ``folders``, ``table``), its
    test images are used, and the fraction for validation is drawn from its training images, unless a validation split
    is given too. If all images test models that were trained elsewhere, nothing is drawn, and classes may be absent.

    Args:
        collection: the images.
        settings: the fractions; None for a collection of which all images test.
        seed: the user's seed.
        dataset: its name, part of the random stream's name and of messages.

    Returns:
        The table ``splits`` (see `pipeline.data.prepared`), one row per image in the collection's order.

    Raises:
        UserError: there are fewer than two classes, a class is too small, the fractions leave nothing to train on, or
            the split that is asked for is not given or lacks a class; or fractions are missing, or given where none are
            needed.
    """
    labels = collection.labels
    if len(collection.class_names) < 2:
        raise UserError(f"dataset {dataset}", f"found {len(collection.class_names)} class", expected="at least 2")
    if collection.only_tests or settings is None:
        split = _all_test(collection, settings, dataset)
    elif isinstance(settings.test, str):
        split = _given(collection, settings, seed, dataset)
    else:
        if settings.validation + settings.test >= 1:
            raise UserError(
                params.at(f"datasets.{dataset}.split"),
                f"found {settings.validation + settings.test:g} for validation + test",
                expected="less than 1",
            )
        split = np.full(len(labels), "train", dtype=object)
        parts = (("test", settings.test), ("validation", settings.validation))
        for label in range(len(collection.class_names)):
            _hold_out(
                split,
                np.flatnonzero(labels == label),
                parts,
                generator(seed, "splits", dataset, label),
                name=collection.class_names[label],
                dataset=dataset,
            )
    return pd.DataFrame(
        {
            "image": np.arange(len(labels), dtype=np.int64),
            "name": collection.names,
            "label": labels,
            "class_name": [collection.class_names[label] for label in labels],
            "split": split.tolist(),
        }
    )


def _all_test(collection: Collection, settings: SplitSettings | None, dataset: str) -> npt.NDArray[Any]:
    if settings is not None:
        raise UserError(
            params.at(f"datasets.{dataset}.split"),
            "found fractions; all images of this dataset test models that were trained elsewhere",
            expected="no split",
        )
    if not collection.only_tests:
        raise UserError(params.at(f"datasets.{dataset}.split"), "missing", fix="it has no default")
    return np.array(collection.splits, dtype=object)


def _given(collection: Collection, settings: SplitSettings, seed: int, dataset: str) -> npt.NDArray[Any]:
    if collection.splits is None:
        raise UserError(
            params.at(f"datasets.{dataset}.split.test"),
            f"found {settings.test!r}; this dataset has no such split",
            expected="a fraction",
        )
    split = np.array(collection.splits, dtype=object)
    if "validation" not in collection.splits:
        for label, name in enumerate(collection.class_names):
            members = np.flatnonzero((collection.labels == label) & (split == "train"))
            rng = generator(seed, "splits", dataset, label)
            _hold_out(split, members, (("validation", settings.validation),), rng, name=name, dataset=dataset)
    for label, name in enumerate(collection.class_names):
        for part in SPLIT_NAMES:
            if part not in split[collection.labels == label]:
                raise UserError(
                    f"dataset {dataset}",
                    f"the given {part} split has no image of class {name!r}",
                    expected="at least one of every class",
                )
    return split


def _hold_out(
    split: npt.NDArray[Any],
    members: npt.NDArray[np.int64],
    parts: tuple[tuple[str, float], ...],
    rng: np.random.Generator,
    *,
    name: str,
    dataset: str,
) -> None:
    """Draw some of a class's images for each of some splits, in place."""
    least = LEAST_IMAGES_PER_CLASS if len(parts) > 1 else 2
    if len(members) < least:
        raise UserError(
            f"dataset {dataset}: class {name!r}",
            f"found {len(members)} image(s)",
            expected=f"at least {least}, to train and to hold some out ({', '.join(part for part, _ in parts)})",
        )
    members = rng.permutation(members)
    held_out = [max(1, round(fraction * len(members))) for _, fraction in parts]
    if sum(held_out) >= len(members):
        counts = " and ".join(f"{count} {part}" for count, (part, _) in zip(held_out, parts, strict=True))
        raise UserError(
            params.at(f"datasets.{dataset}.split"),
            f"found {counts} images of {len(members)} in class {name!r}",
            expected="fractions that leave some to train on",
        )
    start = 0
    for count, (part, _) in zip(held_out, parts, strict=True):
        split[members[start : start + count]] = part
        start += count
