"""Drop in confidence: max(0, Y - O) when the picture is multiplied by the map (grad-cam's)."""

from pipeline.metrics.faithfulness.masking import MaskSettings, drop, with_map
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_map, drop, better="lower", best=0)
