"""Increase in confidence: 1 where the picture, cut at a percentile of the map, scores higher (grad-cam's), else 0."""

from pipeline.metrics.faithfulness.masking import CutSettings, increase, with_cut
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(CutSettings, with_cut, increase, better="lower", best=0)
