"""ROAD, most relevant first: how far the score moves when the highest pixels of the map are filled in from around."""

from pipeline.metrics.faithfulness.metric import Metric
from pipeline.metrics.faithfulness.road import RoadSettings, change, most

METRIC = Metric(RoadSettings, most, change, better="lower", best=-1, orders=True)
