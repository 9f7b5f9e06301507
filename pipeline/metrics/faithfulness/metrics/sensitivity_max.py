"""Maximum sensitivity: the largest change of the map under tiny changes of the picture.

The greatest ‖φ(x + δ) - φ(x)‖ / ‖φ(x)‖ over changes δ drawn evenly from [-radius, radius] in every value of the picture
(Yeh et al., 2019, https://arxiv.org/abs/1901.09392; Captum's ``sensitivity_max``), Euclidean norms, the class and the
method's seed as they were. φ(x) is the map as it is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from typing_extensions import override

from pipeline.core.params import Positive, Steps
from pipeline.core.params import Settings as BaseSettings
from pipeline.metrics.faithfulness.batch import Answer, Batch, Probe
from pipeline.metrics.faithfulness.metric import Metric, Reading, quotient


class Settings(BaseSettings):
    """How the picture is changed.

    Attributes:
        samples: changes per map.
        radius: of a change, in normalised units.
    """

    samples: Steps
    radius: Positive


@dataclass(frozen=True)
class Moves(Probe):
    """The greatest move of a map, NaN where the map is 0 everywhere."""

    samples: int
    radius: float

    @override
    def forward(self, side: int) -> int:
        return 0

    @override
    def explanations(self) -> int:
        return self.samples

    @override
    def width(self, side: int) -> int:
        return 1

    @override
    def ask(self, batch: Batch) -> torch.Tensor:
        assert batch.maps is not None
        shape = (self.samples, *batch.images.shape[1:])
        drawn = [batch.rng(row, "sensitivity").uniform(-1, 1, shape) for row in range(len(batch.images))]
        changes = torch.from_numpy(self.radius * np.stack(drawn)).to(batch.images)
        moved = batch.explained(self.samples, lambda rows, at: batch.images[rows] + changes[rows, at])
        moves = np.linalg.norm((moved - batch.maps[:, None]).reshape(*moved.shape[:2], -1), axis=2).max(axis=1)
        lengths = np.linalg.norm(batch.maps.reshape(len(moves), -1), axis=1)
        return torch.from_numpy(quotient(moves, lengths)[:, None])


def probes(settings: Settings) -> tuple[Probe, ...]:
    """Ask for the greatest move."""
    return (Moves(settings.samples, settings.radius),)


def read(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return it."""
    return [Reading(answers[0][:, 0], "the map is 0 everywhere, so that no move can be set against it")]


METRIC = Metric(Settings, probes, read, better="lower", best=0, needs=("map", "method"))
