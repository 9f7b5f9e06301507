"""Average gain: how many percent of what the score lacks are won when the picture is multiplied by the map.

AG = 100 max(0, O - Y) / (1 - Y) (Zhang et al., 2023, https://arxiv.org/abs/2301.07002), averaged over images.
"""

from pipeline.metrics.faithfulness.masking import MaskSettings, relative_gain, with_map
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_map, relative_gain, better="higher", best=100)
