"""Scores of pictures multiplied by their maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from typing_extensions import override

from pipeline.core.params import Settings
from pipeline.metrics.faithfulness.batch import Answer, Batch, Probe, Unchanged
from pipeline.metrics.faithfulness.metric import Reading, quotient
from pipeline.saliency.masks import Masked, apply_masks

Mask = Literal["map", "inverse", "cut"]


class MaskSettings(Settings):
    """How a picture is masked.

    Attributes:
        masked: what the mask multiplies: the ``picture``, as in Opti-CAM's code, so that what is hidden is black; or
            the ``normalised`` input, as in grad-cam, so that it is the mean colour of the model's training data.
    """

    masked: Masked


class CutSettings(MaskSettings):
    """How a picture is cut.

    Attributes:
        percentile: of the map's values; what is at it or above is masked.
    """

    percentile: Annotated[float, Field(gt=0, lt=100)]


@dataclass(frozen=True)
class UnderMask(Probe):
    """Score of a picture multiplied by a mask, O.

    A mask of ones leaves the picture and so its score exactly as it is.

    Attributes:
        masked: what the mask multiplies, see `MaskSettings`.
        mask: ``map`` is the map, ``inverse`` 1 - map, both in [0, 1] (values below 0 count as 0); ``cut`` keeps what is
            below a percentile of the map, its sign included. O is NaN where the cut would leave nothing, because the
            percentile is the map's least value.
        percentile: of the cut.
    """

    masked: Masked
    mask: Mask = "map"
    percentile: float = 0

    @override
    def forward(self, side: int) -> int:
        return 1

    @override
    def ask(self, batch: Batch) -> torch.Tensor:
        assert batch.maps is not None
        masks, empty = batch.unit, torch.zeros(len(batch.images), dtype=torch.bool)
        if self.mask == "inverse":
            masks = 1 - masks
        if self.mask == "cut":
            thresholds = np.percentile(batch.maps, self.percentile, axis=(1, 2), keepdims=True)
            kept = torch.from_numpy((batch.maps < thresholds)[:, None])
            masks, empty = kept.to(batch.images), ~kept.flatten(1).any(dim=1)
        masked = apply_masks(batch.model, batch.images, masks[:, 0], self.masked)
        scores = batch.scores(1, lambda rows, _: masked[rows])
        # Equal pictures have equal scores, wherever they are in a batch.
        same = (masked == batch.images).flatten(1).all(dim=1)
        scores[same] = batch.unchanged[same]
        scores[empty.to(scores.device)] = torch.nan
        return scores


def with_map(settings: MaskSettings) -> tuple[Probe, ...]:
    """Ask with the map as the mask."""
    return (Unchanged(), UnderMask(settings.masked))


def with_inverse(settings: MaskSettings) -> tuple[Probe, ...]:
    """Ask with what the map leaves as the mask."""
    return (Unchanged(), UnderMask(settings.masked, "inverse"))


def with_cut(settings: CutSettings) -> tuple[Probe, ...]:
    """Ask without the pixels at a percentile of the map or above."""
    return (Unchanged(), UnderMask(settings.masked, "cut", settings.percentile))


NOTHING_LEFT = "the percentile is the map's least value, so that cutting there would leave nothing of the picture"
CERTAIN = "the score of the picture is 1, so that it cannot rise"


def change(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return O - Y."""
    before, after = _scores(answers)
    return _reading(after - before, settings)


def drop(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return max(0, Y - O)."""
    before, after = _scores(answers)
    return _reading(np.maximum(before - after, 0), settings)


def increase(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return 1 where O > Y, else 0."""
    before, after = _scores(answers)
    return _reading(np.where(np.isnan(after), np.nan, after > before), settings)


def relative_drop(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return 100 max(0, Y - O) / Y."""
    before, after = _scores(answers)
    return [Reading(100 * quotient(np.maximum(before - after, 0), before), "the score of the picture is 0")]


def relative_gain(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return 100 max(0, O - Y) / (1 - Y)."""
    before, after = _scores(answers)
    return [Reading(100 * quotient(np.maximum(after - before, 0), 1 - before), CERTAIN)]


def percent_increase(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return 100 where O > Y, else 0."""
    before, after = _scores(answers)
    return [Reading(100 * (after > before).astype(np.float64))]


def _scores(answers: Sequence[Answer]) -> tuple[Answer, Answer]:
    """Return Y and O of every row, each (N,)."""
    before, after = (answer[:, 0] for answer in answers)
    return before, after


def _reading(values: Answer, settings: Settings) -> list[Reading]:
    removed = 100 - settings.percentile if isinstance(settings, CutSettings) else None
    return [Reading(values.astype(np.float64), NOTHING_LEFT, removed)]
