"""Infidelity: how badly the map predicts the effect of small changes of the picture on the score.

With changes I drawn from a normal distribution, φ the map and f the score of the class,
mean of (β Iᵀφ - (f(x) - f(x - I)))², where β = mean of Iᵀφ (f(x) - f(x - I)) / mean of (Iᵀφ)² makes up for the scale of
the map, as Captum does with ``normalize=True`` (Yeh et al., 2019, https://arxiv.org/abs/1901.09392). A map of one value
per pixel stands for all its channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from typing_extensions import override

from pipeline.core.params import Positive
from pipeline.core.params import Settings as BaseSettings
from pipeline.metrics.faithfulness.batch import Answer, Batch, Probe
from pipeline.metrics.faithfulness.metric import Metric, Reading, quotient


class Settings(BaseSettings):
    """How the picture is changed.

    Attributes:
        samples: changes per map.
        noise: their deviation, in normalised units.
    """

    samples: Annotated[int, Field(ge=2, le=10_000)]
    noise: Positive


@dataclass(frozen=True)
class Changes(Probe):
    """For each change of a picture: Iᵀφ, and f(x) - f(x - I)."""

    samples: int
    noise: float

    @override
    def forward(self, side: int) -> int:
        return 1 + self.samples

    @override
    def width(self, side: int) -> int:
        return 2 * self.samples

    @override
    def ask(self, batch: Batch) -> torch.Tensor:
        assert batch.maps is not None
        shape = (self.samples, *batch.images.shape[1:])
        drawn = torch.stack([batch.noise(row, "infidelity", *shape) for row in range(len(batch.images))])
        changes = self.noise * drawn
        maps = torch.from_numpy(batch.maps).to(batch.images.device)
        dots = torch.stack(
            [(of_row.sum(dim=1) * map_).sum(dim=(1, 2)) for of_row, map_ in zip(changes, maps, strict=True)]
        )

        def pictures(rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            # Step 0 is the picture as it is.
            return batch.images[rows] - changes[rows, (at - 1).clamp(min=0)] * (at > 0)[:, None, None, None]

        scores = batch.scores(1 + self.samples, pictures)
        return torch.cat([dots, scores[:, :1] - scores[:, 1:]], dim=1)


def probes(settings: Settings) -> tuple[Probe, ...]:
    """Ask for the changes."""
    return (Changes(settings.samples, settings.noise),)


def read(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return the mean square error at the best scale."""
    dots, differences = answers[0][:, : settings.samples], answers[0][:, settings.samples :]
    scale = quotient((dots * differences).mean(axis=1), (dots**2).mean(axis=1))
    error = ((scale[:, None] * dots - differences) ** 2).mean(axis=1)
    return [Reading(error, "the map is 0 everywhere, so that it predicts nothing")]


METRIC = Metric(Settings, probes, read, better="lower", best=0)
