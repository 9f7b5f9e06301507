"""Increase in confidence: 1 where the score rises when the picture is multiplied by the map (grad-cam's), else 0."""

from pipeline.metrics.faithfulness.masking import MaskSettings, increase, with_map
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_map, increase, better="higher", best=1)
