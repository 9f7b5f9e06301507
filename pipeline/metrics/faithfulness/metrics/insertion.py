"""Insertion: the area under the score while pixels are inserted into a blurred picture, the highest of the map first.

Petsiuk et al., 2018 (https://arxiv.org/abs/1806.07421). Raw areas depend on how sure a model is, and must not be
compared across models.
"""

from pipeline.metrics.faithfulness.metric import Metric
from pipeline.metrics.faithfulness.removal import InsertionSettings, curve, raw

METRIC = Metric(InsertionSettings, curve, raw, better="higher", best=1, orders=True)
