"""Average increase: in how many percent of the images the score rises when the picture is multiplied by the map.

AI = 100 [O > Y] (Chattopadhyay et al., 2018, https://arxiv.org/abs/1710.11063), averaged over images.
"""

from pipeline.metrics.faithfulness.masking import MaskSettings, percent_increase, with_map
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_map, percent_increase, better="higher", best=100)
