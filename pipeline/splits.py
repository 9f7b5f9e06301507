"""Which images train, validate and test: drawn once from the seed, class by class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.datasets import Collection
from pipeline.errors import UserError
from pipeline.params import SplitSettings
from pipeline.randomness import generator

LEAST_IMAGES_PER_CLASS = 5


def draw_splits(collection: Collection, settings: SplitSettings, seed: int, dataset: str) -> pd.DataFrame:
    """Assign every image to a split.

    Each class gives the rounded fractions of its images, and at least one, to validation and test, so that every
    class is present everywhere. Splits fixed by the publisher are kept.

    Args:
        collection: the images.
        settings: the fractions.
        seed: the user's seed.
        dataset: its name, part of the random stream's name and of messages.

    Returns:
        The table ``splits`` (see `pipeline.tables`), one row an image in the collection's order.

    Raises:
        UserError: there are fewer than two classes, a class is too small, or the fractions leave nothing to train on.
    """
    labels = collection.labels
    if len(collection.class_names) < 2:
        raise UserError(f"dataset {dataset}: found {len(collection.class_names)} class; at least 2 are needed")
    if settings.validation + settings.test >= 1:
        raise UserError(
            f"params.yaml: datasets.{dataset}.split: validation + test = {settings.validation + settings.test:g}; "
            "allowed: less than 1"
        )
    split = np.full(len(labels), "train", dtype=object)
    for label, name in enumerate(collection.class_names):
        members = np.flatnonzero(labels == label)
        if len(members) < LEAST_IMAGES_PER_CLASS:
            raise UserError(
                f"dataset {dataset}: class {name!r} has {len(members)} image(s); "
                f"at least {LEAST_IMAGES_PER_CLASS} are needed to train, validate and test"
            )
        members = generator(seed, "splits", dataset, label).permutation(members)
        held_out = [max(1, round(part * len(members))) for part in (settings.test, settings.validation)]
        if sum(held_out) >= len(members):
            raise UserError(
                f"params.yaml: datasets.{dataset}.split: found {held_out[0]} test and {held_out[1]} validation images "
                f"of {len(members)} in class {name!r}; allowed: fractions that leave some to train on"
            )
        split[members[: held_out[0]]] = "test"
        split[members[held_out[0] : sum(held_out)]] = "validation"
    return pd.DataFrame(
        {
            "image": np.arange(len(labels), dtype=np.int64),
            "name": collection.names,
            "label": labels,
            "class_name": [collection.class_names[label] for label in labels],
            "split": collection.splits if collection.splits is not None else split.tolist(),
        }
    )
