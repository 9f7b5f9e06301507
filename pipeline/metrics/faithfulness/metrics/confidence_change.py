"""Change of confidence: O - Y when the picture is multiplied by the map (grad-cam's)."""

from pipeline.metrics.faithfulness.masking import MaskSettings, change, with_map
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_map, change, better="higher", best=1)
