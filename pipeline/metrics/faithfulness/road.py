"""ROAD: scores after the most or the least relevant pixels were removed and filled in from their neighbours.

Rong et al., 2022 (https://arxiv.org/abs/2202.00449). Exactly the top, or bottom, share of the pixels is removed, by
rank, ties in a seeded order. Libraries compare the map with its percentile instead, and remove the whole picture where
more of the map than is left has its least value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from typing_extensions import override

from pipeline.core.params import Settings, as_tuple
from pipeline.metrics.faithfulness.batch import Answer, Batch, Probe, Unchanged
from pipeline.metrics.faithfulness.imputation import impute
from pipeline.metrics.faithfulness.metric import Reading

Percents = Annotated[tuple[Annotated[int, Field(ge=1, le=99)], ...], BeforeValidator(as_tuple), Field(min_length=1)]


class RoadSettings(Settings):
    """How much is removed.

    Attributes:
        percents: of the pixels; the metric has a value for each, and their mean.
        noise: deviation of what is added to filled-in pixels, in normalised units.
    """

    percents: Percents = (20, 40, 60, 80)
    noise: Annotated[float, Field(ge=0, le=100)] = 0.01


@dataclass(frozen=True)
class Removed(Probe):
    """Scores of a picture after each percent of its pixels was removed.

    Attributes:
        first: the ``most`` or the ``least`` relevant pixels.
        percents: of the pixels.
        noise: deviation of what is added to filled-in pixels; drawn once per picture.
    """

    first: Literal["most", "least"]
    percents: tuple[int, ...]
    noise: float

    @override
    def forward(self, side: int) -> int:
        return len(self.percents)

    @override
    def ask(self, batch: Batch) -> torch.Tensor:
        total = batch.side**2
        counts = torch.tensor([round(total * percent / 100) for percent in self.percents]).to(batch.images.device)
        # Both orders get the same noise, and their difference none of it.
        drawn = [batch.noise(row, "road", *batch.images.shape[1:]) for row in range(len(batch.images))]
        noise = self.noise * torch.stack(drawn)

        def pictures(rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            places = batch.places[rows]
            if self.first == "least":
                places = total - 1 - places
            removed = places < counts[at, None, None]
            filled = impute(batch.images[rows].contiguous(), removed)
            return torch.where(removed[:, None], filled + noise[rows], filled)

        return batch.scores(len(counts), pictures)


def most(settings: RoadSettings) -> tuple[Probe, ...]:
    """Ask for the picture as it is and without its most relevant pixels."""
    return (Unchanged(), Removed("most", settings.percents, settings.noise))


def least(settings: RoadSettings) -> tuple[Probe, ...]:
    """Ask for the picture as it is and without its least relevant pixels."""
    return (Unchanged(), Removed("least", settings.percents, settings.noise))


def both(settings: RoadSettings) -> tuple[Probe, ...]:
    """Ask for the picture without its most and without its least relevant pixels."""
    return (Removed("most", settings.percents, settings.noise), Removed("least", settings.percents, settings.noise))


def readings(values: Answer, settings: RoadSettings) -> list[Reading]:
    """Return a reading for each percent, values (N, percents), and one for their mean."""
    each = [Reading(values[:, place], at=float(percent)) for place, percent in enumerate(settings.percents)]
    return [*each, Reading(np.mean(values, axis=1))]


def change(answers: Sequence[Answer], settings: RoadSettings) -> list[Reading]:
    """Return how far the score moves, O - Y."""
    before, after = answers
    return readings(after - before, settings)
