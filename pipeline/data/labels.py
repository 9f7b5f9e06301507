"""Labels of images and the classes that a network tells apart."""

from __future__ import annotations

import pandas as pd

from pipeline.core.errors import UserError


def check_labels(splits: pd.DataFrame, classes: int, source: str, model: str) -> None:
    """Raise a `UserError` for the first image whose label is not one of a network's classes.

    Args:
        splits: the table ``splits``.
        classes: how many the network tells apart.
        source: what to call the table in messages.
        model: likewise the network.
    """
    beyond = splits[splits["label"] >= classes]
    if len(beyond):
        first = beyond.iloc[0]
        raise UserError(
            f"{source}: image {first['image']} ({first['name']})",
            f"found the label {first['label']}",
            expected=f"0 to {classes - 1}, the classes of {model}",
        )
