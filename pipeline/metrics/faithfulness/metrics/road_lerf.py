"""ROAD, least relevant first: how far the score moves when the lowest pixels of the map are filled in from around."""

from pipeline.metrics.faithfulness.metric import Metric
from pipeline.metrics.faithfulness.road import RoadSettings, change, least

METRIC = Metric(RoadSettings, least, change, better="higher", best=1, orders=True)
