"""Average drop: how many percent of the score are lost when the picture is multiplied by the map.

AD = 100 max(0, Y - O) / Y (Chattopadhyay et al., 2018, https://arxiv.org/abs/1710.11063), averaged over images. A
map of ones loses nothing, so it says little without average gain.
"""

from pipeline.metrics.faithfulness.masking import MaskSettings, relative_drop, with_map
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(MaskSettings, with_map, relative_drop, better="lower", best=0)
