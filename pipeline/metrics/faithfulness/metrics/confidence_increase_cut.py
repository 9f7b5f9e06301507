"""Increase in confidence: 1 where cutting the picture at a percentile of the map raises the score (grad-cam's), else 0."""

from pipeline.metrics.faithfulness.masking import CutSettings, increase, with_cut
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(CutSettings, with_cut, increase, better="lower", best=0)
