"""Drop in confidence: max(0, Y - O) when the picture is cut at a percentile of the map (grad-cam's)."""

from pipeline.metrics.faithfulness.masking import CutSettings, drop, with_cut
from pipeline.metrics.faithfulness.metric import Metric

METRIC = Metric(CutSettings, with_cut, drop, better="higher", best=1)
