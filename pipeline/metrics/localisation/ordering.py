"""Maps as orders of their pixels, compared with masks; ties count as all their orders do on average."""

from __future__ import annotations

import numpy as np

from pipeline.data.geometry import Mask
from pipeline.metrics.localisation.boxes import Maps


def hits_among_highest(saliency: Maps, mask: Mask) -> float:
    """Return which part of a mask's n pixels is among the n highest of one map (H, W)."""
    values = saliency.ravel()
    count = int(mask.sum())
    if not count:
        return np.nan
    least = np.partition(values, len(values) - count)[len(values) - count]
    inside = mask.ravel()
    above, tied = values > least, values == least
    share = (count - np.count_nonzero(above)) / np.count_nonzero(tied)
    return float((np.count_nonzero(above & inside) + share * np.count_nonzero(tied & inside)) / count)


def average_precision(saliency: Maps, mask: Mask) -> float:
    """Return the average precision of one map (H, W) as a score of whether a pixel is in the mask.

    The sum over distinct values of precision at that value times the rise of the recall, without interpolation.
    """
    values, inside = saliency.ravel(), mask.ravel()
    if not inside.any():
        return np.nan
    order = np.argsort(values)[::-1]
    ordered = values[order]
    hits = np.cumsum(inside[order])
    last_of_value = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    hits = hits[last_of_value]
    precision = hits / (last_of_value + 1)
    return float(precision @ np.diff(hits, prepend=0) / hits[-1])
