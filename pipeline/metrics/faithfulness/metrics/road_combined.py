"""ROAD, combined: half of what the score is higher without the lowest pixels of the map than without the highest."""

from collections.abc import Sequence

from pipeline.metrics.faithfulness.batch import Answer
from pipeline.metrics.faithfulness.metric import Metric, Reading
from pipeline.metrics.faithfulness.road import RoadSettings, both, readings


def read(answers: Sequence[Answer], settings: RoadSettings) -> list[Reading]:
    """Return (LeRF - MoRF) / 2."""
    without_highest, without_lowest = answers
    return readings((without_lowest - without_highest) / 2, settings)


METRIC = Metric(RoadSettings, both, read, better="higher", best=0.5, chance=0, orders=True)
