"""Change of confidence: O - Y when the picture is multiplied by 1 - map (grad-cam's)."""

from pipeline.metrics.faithfulness.masking import MaskSettings, change, with_inverse
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_inverse, change, better="lower", best=-1)
