"""Tied pixels: the share of pixels whose value another pixel of the map has too.

Every metric that orders pixels breaks such ties at random, with a seed: the more there are, the less its value says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from typing_extensions import override

from pipeline.metrics.faithfulness.batch import Answer, Batch, Probe
from pipeline.metrics.faithfulness.metric import Metric, NoSettings, Reading


@dataclass(frozen=True)
class Ties(Probe):
    """The share of tied pixels, in [0, 1]."""

    @override
    def forward(self, side: int) -> int:
        return 0

    @override
    def width(self, side: int) -> int:
        return 1

    @override
    def ask(self, batch: Batch) -> torch.Tensor:
        assert batch.maps is not None
        shares = []
        for one in batch.maps:
            counts = np.unique(one, return_counts=True)[1]
            shares.append(counts[counts > 1].sum() / one.size)
        return torch.tensor(shares, dtype=torch.float64)[:, None]


def probes(settings: NoSettings) -> tuple[Probe, ...]:
    """Count the ties."""
    return (Ties(),)


def read(answers: Sequence[Answer], settings: NoSettings) -> list[Reading]:
    """Return the share."""
    return [Reading(answers[0][:, 0])]


METRIC = Metric(NoSettings, probes, read, better=None, needs=("map",))
