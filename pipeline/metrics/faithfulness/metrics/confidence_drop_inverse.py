"""Drop in confidence: max(0, Y - O) when the picture is multiplied by 1 - map (grad-cam's)."""

from pipeline.metrics.faithfulness.masking import MaskSettings, drop, with_inverse
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_inverse, drop, better="higher", best=1)
