"""What the README shows of a run: a table of one cell, and maps of photographs that are free to show."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import PurePosixPath

import pandas as pd

from pipeline.core.errors import UserError, unknown_name
from pipeline.core.tables import lines_of
from pipeline.results.cell_maps import CellMaps, MethodMaps
from pipeline.results.gallery import CAPTIONS, method_line, picture_line
from pipeline.results.overlay import scales
from pipeline.results.sheet import Sheet, panel_side

BEGIN, END = "<!-- table -->", "<!-- end -->"
"""Between these lines stands the table."""
FREE = ("chelsea", "coffee", "rocket")
"""Photographs of scikit-image's that are in the public domain, by the names of their files; the only ones shown."""
METHODS_SHOWN = 6
UNLIKE = ("grad_cam", "score_cam", "integrated_gradients", "smooth_grad", "lime", "extremal_perturbation")
"""Methods of different kinds, which are shown first."""
HEADINGS = ("method", "COSE (SSIM)", "COSE (Spearman)", "consistency", "sensitivity", "images", "rows")
UNDEFINED = "–"


def table(cose: pd.DataFrame, cell: str, controls: Container[str]) -> str:
    """Return the numbers of a cell as a Markdown table, the method with the highest COSE (SSIM) first.

    Args:
        cose: the table ``cose``, as in metrics/cose.csv.
        cell: name of one of its cells.
        controls: methods that do not look at the model.

    Returns:
        The table, in percent, under the paper's protocol, and a line that says so. Images and rows are those behind
        consistency and sensitivity.

    Raises:
        UserError: there are no numbers of the cell.
    """
    chosen = cose[(cose["cell"] == cell) & (cose["protocol"] == "paper")]
    if not len(chosen):
        raise unknown_name("metrics/cose.csv", "cell", cell, list(dict.fromkeys(cose["cell"])))
    ranked = chosen[chosen["similarity"] == "spearman"].set_index("method")["cose"]
    structural = chosen[chosen["similarity"] == "ssim"].sort_values("cose", ascending=False, kind="stable")
    lines = [HEADINGS, ("---", *["--:"] * (len(HEADINGS) - 1))]
    for line in lines_of(structural):
        name = f"*`{line.method}`*" if line.method in controls else f"`{line.method}`"
        if not pd.isna(line.missing):
            lines.append((name, f"left out: {line.missing}", *[UNDEFINED] * (len(HEADINGS) - 2)))
            continue
        interval = "" if pd.isna(line.cose_low) else f" [{_percent(line.cose_low)}, {_percent(line.cose_high)}]"
        images = max(line.consistency_images, line.sensitivity_images)
        rows = line.consistency_rows + line.sensitivity_rows
        shares = (ranked[line.method], line.consistency, line.sensitivity)
        lines.append((name, _percent(line.cose) + interval, *map(_percent, shares), f"{images:.0f}", f"{rows:.0f}"))
    said = f"Cell `{cell}`, in percent, paper protocol, with intervals over images; `metrics/cose.csv` has all numbers."
    if any(method in controls for method in structural["method"]):
        said += " In italics: controls, which do not look at the model."
    said += (
        " Overlapping intervals do not mean that two methods are equal: methods share their rows, so differences "
        f"between them are paired and vary less. {_moves(cose[cose['cell'] == cell])}"
    )
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", said])


def _moves(cose: pd.DataFrame) -> str:
    """Say in a sentence which methods of a cell the balanced protocol puts in another place."""
    structural = cose[(cose["similarity"] == "ssim") & cose["cose"].notna()]
    places = {
        protocol: of_protocol.set_index("method")["cose"].rank(ascending=False, method="min").astype(int)
        for protocol, of_protocol in structural.groupby("protocol")
    }
    if set(places) != {"balanced", "paper"}:
        return "The balanced protocol has no numbers."
    both = pd.DataFrame(places).dropna().astype(int)
    moved = both[(both["paper"] - both["balanced"]).abs() > 1].sort_values("paper")
    if not len(moved):
        return "Under the balanced protocol, no method changes its rank by more than one."
    named = ", ".join(f"`{row.Index}` from {row.paper} to {row.balanced}" for row in lines_of(moved))
    return f"Under the balanced protocol, these ranks change by more than one: {named}."


def _percent(value: float) -> str:
    return UNDEFINED if pd.isna(value) else f"{100 * value:.1f}".replace("-", "−")


def with_table(text: str, new: str, source: str) -> str:
    """Return a document with another table between the lines `BEGIN` and `END`.

    Args:
        text: the document.
        new: the table.
        source: what to call the document in an error.

    Raises:
        UserError: it does not have both lines once each, in this order.
    """
    lines = text.splitlines()
    if lines.count(BEGIN) != 1 or lines.count(END) != 1 or lines.index(BEGIN) > lines.index(END):
        raise UserError(
            source,
            f"found {lines.count(BEGIN)} lines {BEGIN} and {lines.count(END)} lines {END}",
            expected="one of each, in this order",
        )
    before, after = lines[: lines.index(BEGIN) + 1], lines[lines.index(END) :]
    return "\n".join([*before, "", new, "", *after]) + "\n"


def free_images(cell: CellMaps) -> list[int]:
    """Return the numbers of a cell's images that are free to show, in the order of `FREE`."""
    names = {PurePosixPath(name).stem: image for image, name in cell.image_names.items()}
    return [names[name] for name in FREE if name in names]


def photographs(cell: CellMaps, methods: Sequence[MethodMaps]) -> Sheet:
    """Return a sheet with the free photographs in columns and some methods of different kinds in lines.

    Args:
        cell: one with such photographs; see `free_images`.
        methods: all there are, in their order.
    """
    references = cell.references.loc[free_images(cell)]
    explained = [method for method in methods if set(references["row"]) <= method.place.keys()]
    first = sorted(explained, key=lambda method: method.name not in UNLIKE)[:METHODS_SHOWN]
    side = panel_side(len(references))
    return Sheet(
        f"{cell.name}: maps of photographs",
        f"What methods mark for the predicted class. {CAPTIONS}",
        [cell.class_name(label) for label in references["label"]],
        [
            picture_line(cell, references, side),
            *(method_line(cell, method, references["row"], side) for method in methods if method in first),
        ],
        scales([method.kind for method in first]),
    )
