"""Words for pictures: how wide they are, and what of them fits where."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import pandas as pd
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

DPI = 100
"""Pixels per inch of a figure, with which Matplotlib turns points into pixels."""
ELLIPSIS = "…"
Weight = Literal["normal", "bold"]


@cache
def font(size: float, weight: Weight = "normal") -> FontProperties:
    """Return the letters of a size in pixels; they come with Matplotlib, and are the same on every machine."""
    return FontProperties(family="DejaVu Sans", size=size * 72 / DPI, weight=weight)


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(8, 8, DPI)


@cache
def width_of(words: str, size: float, weight: Weight = "normal") -> float:
    """Return how wide a line of words is, in pixels."""
    # Large letters, so that rounding to whole pixels does not count.
    return float(_renderer().get_text_width_height_descent(words, font(8 * size, weight), False)[0]) / 8


def shortened(words: str, width: float, size: float, weight: Weight = "normal") -> str:
    """Return words that fit into a width: as many of their first letters as do, and an ellipsis if that is not all."""
    words = " ".join(words.split())
    if width_of(words, size, weight) <= width:
        return words
    while words and width_of(words + ELLIPSIS, size, weight) > width:
        words = words[:-1].rstrip()
    return words + ELLIPSIS


def wrapped(words: str, width: float, size: float, weight: Weight = "normal", *, most: int = 99) -> list[str]:
    """Break words into lines after blanks, or after underscores where they have some and no blanks.

    Args:
        words: of any length.
        width: of the lines, in pixels.
        size: of the letters, in pixels.
        weight: of the letters.
        most: lines; the last one is shortened when there would be more.
    """
    words = " ".join(words.split())
    after = "_" if "_" in words and " " not in words else " "
    lines = [""]
    parts = words.split(after)
    for at, part in enumerate(parts):
        whole = part + (after if at < len(parts) - 1 else "")
        full = len(lines) == most
        if lines[-1] and not full and width_of((lines[-1] + whole).rstrip(), size, weight) > width:
            lines.append("")
        lines[-1] += whole
    return [shortened(line, width, size, weight) for line in lines]


def number(value: Any, digits: int = 2) -> str:
    """Return a number with some digits after the point, and a dash for one that is not defined."""
    return "–" if pd.isna(value) else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # never −0.00
