"""Change of confidence: O - Y when the picture is cut at a percentile of the map (grad-cam's)."""

from pipeline.metrics.faithfulness.masking import CutSettings, change, with_cut
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(CutSettings, with_cut, change, better="lower", best=-1)
