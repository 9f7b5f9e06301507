"""Insertion between what the worst order of patches reaches on the image, 0, and what the best one does, 1.

The greatest area is the best one. Values may lie outside [0, 1], since an order of pixels is finer than one of patches.
"""

from collections.abc import Sequence

from pipeline.metrics.faithfulness.batch import Answer
from pipeline.metrics.faithfulness.metric import Metric, Reading
from pipeline.metrics.faithfulness.removal import NormalizedInsertionSettings, between, curve, limits, raw


def read(answers: Sequence[Answer], settings: NormalizedInsertionSettings) -> list[Reading]:
    """Return where the areas lie between their limits."""
    least, greatest = answers[1].T
    return between(raw(answers, settings)[0].numbers, least, greatest)


METRIC = Metric(NormalizedInsertionSettings, curve, read, better="higher", orders=True, limits=limits)
