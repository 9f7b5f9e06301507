"""Increase in confidence: 1 where the score rises when the picture is multiplied by 1 - map (grad-cam's), else 0."""

from pipeline.metrics.faithfulness.masking import MaskSettings, increase, with_inverse
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_inverse, increase, better="lower", best=0)
