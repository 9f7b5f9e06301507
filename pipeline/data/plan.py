"""The plan: which test images are explained, and under which perturbations.

It is drawn once from the seed and written down. Every model and every method of a dataset sees the same rows, so
differences between them are paired. (The published code draws from one global stream that the methods consume too.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import params
from pipeline.core.errors import UserError, nearest
from pipeline.core.randomness import generator, stream_seed
from pipeline.data.plan_settings import PlanSettings, check_transforms
from pipeline.data.transforms import IDENTITY, TRANSFORMS


def draw_plan(
    splits: pd.DataFrame, settings: PlanSettings, image_size: int, seed: int, *, dataset: str
) -> pd.DataFrame:
    """Draw the rows of a dataset.

    Images come from the test split, as evenly over the classes as their number allows; those that ``settings.first``
    names come before all others. Every image has a reference
    row, its transforms (each magnitude at most once), one random model, the checkpoints of a training and the networks
    randomised from the top; a model has either of the last two. Rows are ordered by the model state that they need, so
    that a stage loads every state once. A method that explains fewer images takes those whose turn came first, which
    are spread over the classes as evenly.

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
    turns = _draw_images(splits, settings, seed, dataset)
    names = splits.set_index("image")["name"]
    images = sorted(turns)
    trained = [_reference(image) for image in images]
    for image in images:
        for name in settings.transforms:
            draw = generator(seed, "plan", dataset, "magnitudes", names[image], name)
            trained += _transformed(image, name, settings.magnitudes, image_size, draw=draw)
    random = [_row(image, "random") for image in images]
    checkpoints = [
        _row(image, "checkpoint", progress=progress) for progress in sorted(settings.checkpoints) for image in images
    ]
    layers = [_row(image, "layers", layers=count) for count in range(1, settings.layers + 1) for image in images]
    drawn: list[dict[str, Any]] = [*trained, *random, *checkpoints, *layers]
    plan = pd.DataFrame(drawn)
    plan.insert(0, "turn", plan["image"].map(turns))
    plan.insert(0, "row", [row_number(names[row["image"]], row) for row in drawn])
    references = plan[plan["kind"] == "reference"].set_index("image")["row"]
    plan["reference"] = references.loc[plan["image"]].to_numpy()
    return plan.astype({"magnitude": "Float64", "progress": "Int64", "layers": "Int64"})


def row_number(picture: str, row: Mapping[str, object]) -> int:
    """Return the number of a row: the same wherever the same picture is perturbed in the same way.

    Args:
        picture: the image's readable name.
        row: its ``kind``, ``transform``, ``magnitude``, ``progress`` and ``layers``.

    Returns:
        An integer in [0, 2**63).
    """
    state = row["layers"] if row["kind"] == "layers" else row["progress"]
    perturbation = (row["kind"], row["transform"], row["magnitude"], state)
    return stream_seed(0, "row", picture, *map(str, perturbation))


def _draw_images(splits: pd.DataFrame, settings: PlanSettings, seed: int, dataset: str) -> dict[int, int]:
    """Return the images drawn, and the turn of each: 0 for the first."""
    test = splits[splits["split"] == "test"]
    count = settings.explained(dataset)
    if count > len(test):
        raise UserError(
            params.at(settings.key(dataset)),
            f"found {count}",
            expected=f"at most {len(test)}, the test images of {dataset}",
        )
    first = _first(settings, test["name"], dataset)
    drawn = test["name"].map(lambda name: stream_seed(seed, "plan", dataset, "turn", name))
    shuffled = test.assign(drawn=drawn, first=test["name"].map(first).fillna(len(first))).sort_values(
        ["first", "drawn"]
    )
    # Those that come first; then the first of every class, the second of every class, and so on.
    turn = np.where(shuffled["first"] < len(first), 0, 1 + shuffled.groupby("label").cumcount())
    taken = shuffled.iloc[np.argsort(turn, kind="stable")[:count]]
    return {int(image): turn for turn, image in enumerate(taken["image"])}


def _first(settings: PlanSettings, names: pd.Series, dataset: str) -> dict[str, int]:
    """Return the turns of the images that are to be drawn first, by their names."""
    where, known = params.at(f"plan.first.{dataset}"), set(names)
    first: dict[str, int] = {}
    for name in settings.first.get(dataset, ()):
        if name not in known:
            raise UserError(
                where, f"found {name!r}{nearest(name, known)}", expected=f"names of test images of {dataset}"
            )
        if name in first:
            raise UserError(where, f"found {name!r} twice", expected="once")
        first[name] = len(first)
    return first


def _row(
    image: int,
    kind: str,
    transform: str = IDENTITY,
    magnitude: float | None = None,
    *,
    progress: int | None = None,
    layers: int | None = None,
) -> dict[str, object]:
    return {
        "image": image,
        "kind": kind,
        "transform": transform,
        "magnitude": magnitude,
        "progress": progress,
        "layers": layers,
    }


def _reference(image: int) -> dict[str, object]:
    return _row(image, "reference")


def _transformed(image: int, name: str, count: int, size: int, *, draw: np.random.Generator) -> list[dict[str, object]]:
    ladder = TRANSFORMS[name].ladder(size)
    if not ladder:
        return [_row(image, "transform", name)]
    if count > len(ladder):
        raise UserError(
            params.at("plan.magnitudes"),
            f"found {count}",
            expected=f"at most {len(ladder)}, the distinct magnitudes of {name} at {size} pixels",
        )
    drawn = draw.permutation(ladder)[:count]
    return [_row(image, "transform", name, float(magnitude)) for magnitude in sorted(drawn)]
