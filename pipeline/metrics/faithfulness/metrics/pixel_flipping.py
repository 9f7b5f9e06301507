"""Pixel flipping: how far the score falls on average while the highest pixels of the map are taken away.

The area over the perturbation curve, AOPC = mean over k = 0 ... L of (score of the picture - score after k steps)
(Samek et al., 2017, https://arxiv.org/abs/1509.06321), by whole pixels, all channels at once.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pipeline.metrics.faithfulness.batch import Answer, Probe
from pipeline.metrics.faithfulness.metric import Metric, Reading
from pipeline.metrics.faithfulness.removal import Curve, DeletionSettings


class Settings(DeletionSettings):
    """How pixels are flipped.

    Attributes:
        share: of the pixels that is flipped in all.
    """

    share: Annotated[float, Field(gt=0, le=1)]


def probes(settings: Settings) -> tuple[Probe, ...]:
    """Ask for the beginning of the curve."""
    return (Curve(settings.ends, settings.steps, settings.share),)


def read(answers: Sequence[Answer], settings: Settings) -> list[Reading]:
    """Return the mean fall, its beginning included."""
    return [Reading((answers[0][:, :1] - answers[0]).mean(axis=1))]


METRIC = Metric(Settings, probes, read, better="higher", best=1, orders=True)
