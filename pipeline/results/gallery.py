"""Pictures of a cell for people to look at: what its methods mark, and what becomes of that under perturbation.

Nobody chooses what is shown: the images are those that were drawn first, and a rule finds the rows, the same for all
methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.device import threads
from pipeline.core.files import METRICS
from pipeline.core.names import checked_cell
from pipeline.core.parallel import in_order
from pipeline.data.decode import Pixels
from pipeline.data.geometry import Validity
from pipeline.metrics.cose import select
from pipeline.results.cell_maps import CellMaps, MethodMaps
from pipeline.results.lettering import number
from pipeline.results.overlay import lay_over, resized_picture, scales
from pipeline.results.palette_png import encoded
from pipeline.results.perturbed import perturbed_sheet
from pipeline.results.sheet import Line, Panel, Sheet, drawn, panel_side

IMAGES_SHOWN = 6
"""On the sheets with all methods."""
METHODS_SHOWN = 7
"""On one of these sheets, at most."""
CAPTIONS = (
    "Below a picture: the predicted class and its probability, red where it is wrong. Below a map: C (consistency), "
    "its mean similarity (SSIM) to the maps under transforms that keep the prediction, and S (sensitivity), 1 − its "
    "mean similarity to those where it changes."
)
TEXT = f"What each method marks for the predicted class, on the images drawn first. {CAPTIONS}"


def gallery_folder(cell: str) -> Path:
    """Return the folder of a cell's pictures."""
    return METRICS / "gallery" / checked_cell(cell)


def sheets_of_all(cell: CellMaps, methods: Sequence[MethodMaps]) -> list[Sheet]:
    """Return sheets with the images first drawn in columns and the methods in lines, as few as hold all methods."""
    references = cell.references.head(IMAGES_SHOWN)
    side = panel_side(len(references))
    pictures = picture_line(cell, references, side)
    lines = [method_line(cell, method, references["row"], side) for method in methods]
    sheets = -(-len(methods) // METHODS_SHOWN)
    return [
        Sheet(
            f"{cell.name}: maps of all methods" + (f" ({at + 1} of {sheets})" if sheets > 1 else ""),
            TEXT,
            [cell.class_name(label) for label in references["label"]],
            [pictures, *(lines[one] for one in part)],
            scales([methods[one].kind for one in part if methods[one].left_out is None]),
        )
        for at, part in enumerate(np.array_split(np.arange(len(methods)), sheets))
    ]


def picture_line(cell: CellMaps, references: pd.DataFrame, side: int) -> Line:
    """Return the pictures of some reference rows, with what is predicted for each."""
    panels = []
    for row in (references.loc[image] for image in references["image"]):
        pixels = resized_picture(cell.pictures[row["image"]], side)
        wrong, outline = row["prediction"] != row["label"], cell.objects.get(row["image"])
        panels.append(Panel(pixels, (cell.predicted(row),), wrong, outline))
    return Line("picture", panels)


def method_line(cell: CellMaps, method: MethodMaps, references: pd.Series, side: int) -> Line:
    """Return a method's maps of some images, with the image's own consistency and sensitivity.

    Args:
        cell: what all methods share.
        method: what it left of the cell.
        references: number of the reference row, by the number of the image.
        side: of the panels, in pixels.
    """
    if method.left_out is not None:
        return Line(method.name, empty=f"left out: {method.left_out}")
    structural = method.scores["ssim"].astype("Float64")
    chosen = select(method.scores, "balanced")
    consistency, fidelity = (
        structural[chosen[group]].groupby(method.scores["image"][chosen[group]]).mean()
        for group in ("consistency", "sensitivity")
    )
    panels = []
    image: Any  # a number
    for image, row in references.items():
        saliency = method.map_of(row, cell.side)
        if saliency is None:
            panels.append(Panel(None, ("not among the images that it explains",)))
            continue
        words = f"C {number(consistency.get(image))} · S {number(1 - fidelity.get(image, pd.NA))}"
        pixels = lay_over(cell.pictures[image], saliency, method.kind, side)
        panels.append(Panel(pixels, (words,), outline=cell.objects.get(image)))
    return Line(method.name, panels)


def files(cell: CellMaps, methods: Sequence[MethodMaps], validity: Validity) -> Iterator[tuple[Path, bytes]]:
    """Yield the PNG files of a cell, with their paths in its folder.

    Args:
        cell: what all methods share.
        methods: in the order in which they are shown.
        validity: which pixels of a map that was carried back are shown.
    """

    def sheets() -> Iterator[tuple[Path, Pixels]]:
        for at, sheet in enumerate(sheets_of_all(cell, methods), start=1):
            yield Path(f"methods_{at}.png"), drawn(sheet)
        for method in methods:
            if method.left_out is None:
                yield Path("perturbed") / f"{method.name}.png", drawn(perturbed_sheet(cell, method, validity))

    yield from in_order(lambda sheet: (sheet[0], encoded(sheet[1])), sheets(), threads())
