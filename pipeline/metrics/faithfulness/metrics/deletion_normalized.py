"""Deletion between what the worst order of patches reaches on the image, 0, and what the best one does, 1.

The least area is the best one. Values may lie outside [0, 1], since an order of pixels is finer than one of patches.
"""

from collections.abc import Sequence

from pipeline.metrics.faithfulness.batch import Answer
from pipeline.metrics.faithfulness.metric import Metric, Reading
from pipeline.metrics.faithfulness.removal import NormalizedDeletionSettings, between, curve, limits, raw


def read(answers: Sequence[Answer], settings: NormalizedDeletionSettings) -> list[Reading]:
    """Return where the areas lie between their limits."""
    least, greatest = answers[1].T
    return between(raw(answers, settings)[0].numbers, greatest, least)


METRIC = Metric(NormalizedDeletionSettings, curve, read, better="higher", orders=True, limits=limits)
