"""The picture of a choice: what was explained, and every candidate's map over it, the best first."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.results.choose import Choice, Measured
from pipeline.results.lettering import number, wrapped
from pipeline.results.overlay import lay_over, resized_picture, scales
from pipeline.results.sheet import SMALL, Line, Panel, Sheet, panel_side

COLUMNS = 6
SHOWN = 30
"""Candidates on a sheet, at most; those behind are in the table."""


def choice_sheet(choice: Choice, metric: str, model: str, line: str, *, class_name: Callable[[int], str]) -> Sheet:
    """Return the sheet of a choice.

    Args:
        choice: candidates in order.
        metric: what they were measured with.
        model: its name.
        line: the verdict.
        class_name: gives a class's name by its number.
    """
    side = panel_side(COLUMNS)
    shown = list(choice.measured[:SHOWN])
    first = Panel(resized_picture(choice.picture, side), _said(choice, class_name), choice.prediction != choice.target)
    panels = [first, *(_panel(choice, one, rank, side) for rank, one in enumerate(shown, start=1))]
    rows = [panels[at : at + COLUMNS] for at in range(0, len(panels), COLUMNS)]
    hidden = len(choice.measured) - len(shown)
    text = (
        f"{line} Maps explain the class {class_name(choice.target)}; the best comes first. Controls do not look at "
        f"the model." + (f" {hidden} more are in the table." if hidden else "")
    )
    names = [_places(at, len(row), len(shown)) for at, row in enumerate(rows)]
    return Sheet(
        f"{choice.name}, {model}: ranked by {metric}",
        text,
        [""] * COLUMNS,
        [Line(name, row) for name, row in zip(names, rows, strict=True)],
        scales([one.candidate.method.values for one in shown]),
    )


def _places(row: int, length: int, count: int) -> str:
    first, last = max(1, row * COLUMNS), min(count, row * COLUMNS + length - 1)
    return f"{first} to {last}" if first < last else f"{first}"


def _said(choice: Choice, class_name: Callable[[int], str]) -> tuple[str, ...]:
    def percent(label: int) -> str:
        return f"{class_name(label)} {100 * choice.probabilities[label]:.0f} %"

    if choice.prediction == choice.target:
        return ("predicted:", percent(choice.target))
    return (f"explained: {percent(choice.target)}", f"predicted: {percent(choice.prediction)}")


def _panel(choice: Choice, one: Measured, rank: int, side: int) -> Panel:
    saliency = lay_over(choice.picture, one.saliency, one.candidate.method.values, side)
    value = "undefined" if one.value is None else f"{rank}: {number(one.value, digits=3)}"
    name = wrapped(one.candidate.name, side, SMALL, most=2)
    return Panel(saliency, (*name, f"{value} (control)" if one.candidate.control else value))
