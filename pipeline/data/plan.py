"""The plan: which test images are explained, and under which perturbations.

It is drawn once from the seed and written down. Every model and every method of a data set sees the same rows, so
differences between them are paired. (The published code draws from one global stream that the methods consume too.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from pipeline.core.errors import UserError, unknown_name
from pipeline.core.params import Count, Names, Percents, Settings
from pipeline.core.randomness import generator, stream_seed
from pipeline.data.transforms import IDENTITY, TRANSFORMS


class PlanSettings(Settings):
    """Which perturbations the test images get."""

    images: Count
    magnitudes: Annotated[int, Field(ge=1, le=62)]
    transforms: Names
    checkpoints: Percents


def draw_plan(splits: pd.DataFrame, settings: PlanSettings, image_size: int, seed: int, dataset: str) -> pd.DataFrame:
    """Draw the rows of a data set.

    Images come from the test split, as evenly over the classes as their number allows. Every image has a reference
    row, its transforms (each magnitude at most once), one random model and the checkpoints. Rows are ordered by the
    model state that they need, so that a stage loads every state once. A method that explains fewer images takes those
    whose turn came first, which are spread over the classes as evenly.

    A row's number follows from the picture's name and the perturbation, and so does whatever is drawn for it: more
    images, magnitudes or transforms never change a row that was there before.

    Args:
        splits: the table ``splits``.
        settings: counts and names.
        image_size: side of the models' input in pixels; translations scale with it.
        seed: the user's seed.
        dataset: its name, part of the names of the random streams.

    Returns:
        The table ``plan`` (see `pipeline.data.prepared`).

    Raises:
        UserError: a transform is unknown or listed twice, or more images or magnitudes are asked for than there are.
    """
    check_transforms(settings)
    turns = _draw_images(splits, settings.images, seed, dataset)
    names = splits.set_index("image")["name"]
    images = sorted(turns)
    trained = [_reference(image) for image in images]
    for image in images:
        for name in settings.transforms:
            draw = generator(seed, "plan", dataset, "magnitudes", names[image], name)
            trained += _transformed(image, name, settings.magnitudes, image_size, draw)
    random = [_row(image, "random") for image in images]
    checkpoints = [
        _row(image, "checkpoint", progress=progress) for progress in sorted(settings.checkpoints) for image in images
    ]
    drawn = [*trained, *random, *checkpoints]
    plan = pd.DataFrame(drawn)
    plan.insert(0, "turn", plan["image"].map(turns))
    plan.insert(0, "row", [row_number(names[row["image"]], row) for row in drawn])
    references = plan[plan["kind"] == "reference"].set_index("image")["row"]
    plan["reference"] = references.loc[plan["image"]].to_numpy()
    return plan.astype({"magnitude": "Float64", "progress": "Int64"})


def row_number(picture: str, row: Mapping[str, object]) -> int:
    """Return the number of a row: the same wherever the same picture is perturbed in the same way.

    Args:
        picture: the image's readable name.
        row: its ``kind``, ``transform``, ``magnitude`` and ``progress``.

    Returns:
        An integer in [0, 2**63).
    """
    perturbation = (row["kind"], row["transform"], row["magnitude"], row["progress"])
    return stream_seed(0, "row", picture, *map(str, perturbation))


def check_transforms(settings: PlanSettings) -> None:
    """Raise a `UserError` for an unknown or repeated transform, or a repeated checkpoint."""
    where = "params.yaml: plan.transforms"
    for name in settings.transforms:
        if name not in TRANSFORMS:
            raise unknown_name(where, "transform", name, TRANSFORMS)
        if settings.transforms.count(name) > 1:
            raise UserError(f"{where}: found {name!r} twice; allowed: once")
    if len(set(settings.checkpoints)) < len(settings.checkpoints):
        raise UserError("params.yaml: plan.checkpoints: found a percentage twice; allowed: each once")


def rows_per_image(settings: PlanSettings, image_size: int) -> int:
    """Return how many rows the plan has for every image that is explained."""
    transformed = sum(settings.magnitudes if TRANSFORMS[name].ladder(image_size) else 1 for name in settings.transforms)
    return 1 + transformed + 1 + len(settings.checkpoints)


def _draw_images(splits: pd.DataFrame, count: int, seed: int, dataset: str) -> dict[int, int]:
    """Return the images drawn, and the turn of each: 0 for the first."""
    test = splits[splits["split"] == "test"]
    if count > len(test):
        raise UserError(
            f"params.yaml: plan.images: found {count}; allowed: at most {len(test)}, the test images of {dataset}"
        )
    names = test["name"]
    shuffled = test.loc[names.map(lambda name: stream_seed(seed, "plan", dataset, "turn", name)).sort_values().index]
    # The first of every class, then the second of every class, and so on.
    turn = shuffled.groupby("label").cumcount().to_numpy()
    taken = shuffled.iloc[np.argsort(turn, kind="stable")[:count]]
    return {int(image): turn for turn, image in enumerate(taken["image"])}


def _row(image: int, kind: str, transform: str = IDENTITY, magnitude: float | None = None,
         progress: int | None = None) -> dict[str, object]:  # fmt: skip
    return {"image": image, "kind": kind, "transform": transform, "magnitude": magnitude, "progress": progress}


def _reference(image: int) -> dict[str, object]:
    return _row(image, "reference")


def _transformed(image: int, name: str, count: int, size: int, draw: np.random.Generator) -> list[dict[str, object]]:
    ladder = TRANSFORMS[name].ladder(size)
    if not ladder:
        return [_row(image, "transform", name)]
    if count > len(ladder):
        raise UserError(
            f"params.yaml: plan.magnitudes: found {count}; allowed: at most {len(ladder)}, the distinct magnitudes of "
            f"{name} at {size} pixels"
        )
    drawn = draw.permutation(ladder)[:count]
    return [_row(image, "transform", name, float(magnitude)) for magnitude in sorted(drawn)]
