"""Sheets of small pictures in lines and columns, with words to them, as PNG files.

The same content gives the same bytes: sizes are whole pixels, and a file holds no date. Everything is laid out for at
most 840 pixels, the width of a README, and drawn twice as large for screens that show more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pipeline.data.decode import Pixels
from pipeline.data.geometry import Mask
from pipeline.results.lettering import DPI, Weight, font, shortened, width_of, wrapped

WIDTH, NARROWEST = 840, 520
"""Of a sheet, in pixels; all sizes here but the file's own are for this width."""
MARGIN, GAP, NAMES = 16, 8, 112
"""Round the sheet, between panels, and the column of the lines' names."""
LARGEST = 132
"""Side of a panel where there are few of them."""
SCALE = 2
"""Pixels of the file for one of the sheet."""
LINE = 15
"""Height of a line of words."""
TITLE, WORDS, SMALL = 14.0, 11.0, 10.0
"""Sizes of letters."""
INK, PALE, ALARM = "#1f2328", "#59636e", "#b3261e"
PAPER, EMPTY = 255, 243
"""Grey of the sheet and of a place without a panel."""


@dataclass(frozen=True)
class Panel:
    """A small picture.

    Attributes:
        pixels: uint8 (side, side, 3), with the side that `panel_side` gives; None for an empty place.
        words: lines below it, or in it where it is empty.
        alarm: whether they are to be noticed.
        outline: bool (H, W), true inside what is drawn round; None for nothing.
    """

    pixels: Pixels | None
    words: Sequence[str] = ()
    alarm: bool = False
    outline: Mask | None = None


@dataclass(frozen=True)
class Line:
    """Panels next to each other.

    Attributes:
        name: what they are, to their left.
        panels: from left to right.
        empty: why there are no panels; None if there are some.
        note: more about them, in smaller letters below the name.
        apart: whether more room than usual is left below them.
    """

    name: str
    panels: Sequence[Panel] = ()
    empty: str | None = None
    note: str = ""
    apart: bool = False


@dataclass(frozen=True)
class Bar:
    """A scale of colours.

    Attributes:
        pixels: uint8 (h, w, 3), as it is drawn.
        low, high: words at its ends.
        meaning: what it stands for.
    """

    pixels: Pixels
    low: str
    high: str
    meaning: str


@dataclass(frozen=True)
class Sheet:
    """What a file shows.

    Attributes:
        title: its first line.
        text: what there is to see.
        headings: of the columns.
        lines: from top to bottom.
        bars: the scales of colours at its foot.
    """

    title: str
    text: str
    headings: Sequence[str]
    lines: Sequence[Line]
    bars: Sequence[Bar] = field(default_factory=tuple)


def panel_side(columns: int) -> int:
    """Return the side of the panels of a sheet with so many columns, in pixels."""
    return min(LARGEST, (WIDTH - 2 * MARGIN - NAMES) // max(columns, 1) - GAP)


class _Drawing:
    """A sheet that is being drawn; places are in pixels from its top left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.pixels = np.full((height * SCALE, width * SCALE, 3), PAPER, np.uint8)
        self.figure = Figure(figsize=(width * SCALE / DPI, height * SCALE / DPI), dpi=DPI)

    def picture(self, x: int, y: int, pixels: Pixels) -> None:
        large = pixels.repeat(SCALE, 0).repeat(SCALE, 1)
        self.pixels[y * SCALE : y * SCALE + large.shape[0], x * SCALE : x * SCALE + large.shape[1]] = large

    def outline(self, x: int, y: int, side: int, mask: Mask) -> None:
        """Draw round an object: white just inside it and black just outside."""
        large = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
        inside = np.asarray(large.resize((side * SCALE, side * SCALE), Image.Resampling.BILINEAR)) > 127
        place = self.pixels[y * SCALE : (y + side) * SCALE, x * SCALE : (x + side) * SCALE]
        place[grown(inside, SCALE) & ~inside] = 0
        place[grown(~inside, SCALE) & inside] = 255

    def words(
        self,
        x: float,
        y: float,
        words: str,
        size: float,
        *,
        colour: str = INK,
        side: str = "left",
        weight: Weight = "normal",
    ) -> None:
        """Write one line whose top is at y; letters stand on the same height in it whatever they are."""
        self.figure.text(
            x / self.width,
            1 - (y + 0.78 * LINE) / self.height,
            words,
            fontproperties=font(SCALE * size, weight),
            color=colour,
            ha=side,
            va="baseline",
            parse_math=False,
        )

    def finished(self) -> Pixels:
        """Return the sheet, uint8 (H, W, 3): dark words on white paper, and where it is not white, the pictures."""
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.minimum(np.asarray(canvas.buffer_rgba())[..., :3], self.pixels)


def _line_height(line: Line, side: int) -> int:
    below = max((len(panel.words) for panel in line.panels if panel.pixels is not None), default=0)
    tall = 3 * LINE + 2 if line.empty is not None else side + below * LINE + 2
    return tall + (3 if line.apart else 1) * GAP


def drawn(sheet: Sheet) -> Pixels:
    """Return a sheet as it looks, uint8 (H, W, 3). Not for several threads at once: Matplotlib is not."""
    columns = len(sheet.headings)
    side = panel_side(columns)
    width = max(NARROWEST, 2 * MARGIN + NAMES + columns * (side + GAP) - GAP)
    text = wrapped(sheet.text, width - 2 * MARGIN, WORDS)
    headings = [wrapped(words, side, WORDS, "bold", most=2) for words in sheet.headings]
    top = MARGIN + 20 + len(text) * LINE + GAP
    first = top + LINE * max(map(len, headings), default=0) + 4
    height = first + sum(_line_height(line, side) for line in sheet.lines)
    height += (LINE * (len(sheet.bars) + 1) if sheet.bars else 0) + MARGIN - GAP
    drawing = _Drawing(width, height)
    title = shortened(sheet.title, width - 2 * MARGIN, TITLE, "bold")
    drawing.words(MARGIN, MARGIN, title, TITLE, weight="bold")
    for at, words in enumerate(text):
        drawing.words(MARGIN, MARGIN + 20 + at * LINE, words, WORDS, colour=PALE)
    for column, heading in enumerate(headings):
        centre = MARGIN + NAMES + column * (side + GAP) + side / 2
        for above, words in enumerate(reversed(heading), start=1):
            drawing.words(centre, first - 4 - above * LINE, words, WORDS, colour=INK, side="center", weight="bold")
    y = first
    for line in sheet.lines:
        _draw_line(drawing, line, y, side, columns=columns)
        y += _line_height(line, side)
    _draw_bars(drawing, sheet.bars, y)
    return drawing.finished()


def _draw_line(drawing: _Drawing, line: Line, y: int, side: int, *, columns: int) -> None:
    tall = 3 * LINE + 2 if line.empty is not None else side
    name = wrapped(line.name, NAMES - GAP, WORDS, "bold", most=3)
    note = wrapped(line.note, NAMES - GAP, SMALL, most=2) if line.note else []
    first = y + (tall - LINE * (len(name) + len(note))) / 2
    for at, words in enumerate([*name, *note]):
        bold = at < len(name)
        drawing.words(
            MARGIN,
            first + at * LINE,
            words,
            WORDS if bold else SMALL,
            colour=INK if bold else PALE,
            weight="bold" if bold else "normal",
        )
    x = MARGIN + NAMES
    if line.empty is not None:
        wide = columns * (side + GAP) - GAP
        drawing.picture(x, y, np.full((tall, wide, 3), EMPTY, np.uint8))
        lines = wrapped(line.empty, wide - 2 * GAP, WORDS, most=2)
        for at, words in enumerate(lines):
            drawing.words(
                x + wide / 2, y + (tall - LINE * len(lines)) / 2 + at * LINE, words, WORDS, colour=PALE, side="center"
            )
    for panel in line.panels:
        _draw_panel(drawing, panel, x, y, side=side)
        x += side + GAP


def _draw_panel(drawing: _Drawing, panel: Panel, x: int, y: int, *, side: int) -> None:
    if panel.pixels is None:
        drawing.picture(x, y, np.full((side, side, 3), EMPTY, np.uint8))
        lines = [part for words in panel.words for part in wrapped(words, side - 2 * GAP, SMALL, most=4)]
        start, colour = y + (side - LINE * len(lines)) / 2, PALE
    else:
        drawing.picture(x, y, panel.pixels)
        if panel.outline is not None:
            drawing.outline(x, y, side, panel.outline)
        lines = [shortened(words, side, SMALL) for words in panel.words]
        start, colour = y + side + 2.0, ALARM if panel.alarm else PALE
    for at, words in enumerate(lines):
        drawing.words(x + side / 2, start + at * LINE, words, SMALL, colour=colour, side="center")


def _draw_bars(drawing: _Drawing, bars: Sequence[Bar], y: int) -> None:
    x = MARGIN + NAMES + round(max((width_of(bar.low, SMALL) for bar in bars), default=0)) + 4
    for at, bar in enumerate(bars):
        top = y + at * LINE
        drawing.words(x - 4, top, bar.low, SMALL, colour=PALE, side="right")
        drawing.picture(x, top + 3, bar.pixels)
        drawing.words(x + bar.pixels.shape[1] + 4, top, f"{bar.high}  {bar.meaning}", SMALL, colour=PALE)


def grown(mask: Mask, by: int) -> Mask:
    """Return a mask with everything around it that so many steps to a neighbour lead to."""
    wider = mask.copy()
    wider[1:] |= mask[:-1]
    wider[:-1] |= mask[1:]
    wider[:, 1:] |= mask[:, :-1]
    wider[:, :-1] |= mask[:, 1:]
    return wider if by == 1 else grown(wider, by - 1)
