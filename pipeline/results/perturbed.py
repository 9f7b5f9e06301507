"""The sheet of a method: what becomes of its maps when the picture or the model is another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.geometry import Validity, carry_back
from pipeline.data.perturb import perturb
from pipeline.data.transforms import TRANSFORMS
from pipeline.results.cell_maps import CellMaps, MethodMaps
from pipeline.results.lettering import number
from pipeline.results.overlay import lay_over, resized_picture, scales
from pipeline.results.sheet import Line, Panel, Sheet, panel_side

IMAGES_SHOWN = 2
CASES = ("untouched", "geometric", "photometric", "prediction changed", "random model")
"""The rows of an image that are shown."""
TEXT = (
    "Above: what the model sees, the class that it predicts and the probability, red where it is not the class "
    "predicted for the untouched picture. Below: the map of that, carried back to the untouched picture, and its "
    "similarity to the first map (SSIM, Spearman’s ρ): high where the prediction is kept and low where it changes, if "
    "the method can be trusted."
)


def cases(rows: pd.DataFrame, position: int) -> list[int | None]:
    """Choose what is shown of an image.

    Args:
        rows: those of one image, of the table ``rows``.
        position: of the image on the sheet; the transforms differ from image to image.

    Returns:
        For each of `CASES`, the number of a row, or None if the image has no such row. The geometric and the
        photometric one keep the prediction; the one that changes it is that with the surest new prediction.
    """
    reference = rows[rows["kind"] == "reference"].iloc[0]
    of_input = rows[rows["kind"] == "transform"]
    kept = of_input[of_input["prediction"] == reference["prediction"]]
    chosen: list[int | None] = [int(reference["row"])]
    for kind in ("geometric", "photometric"):
        names = [name for name, transform in TRANSFORMS.items() if transform.kind == kind]
        first = 2 * (position + 1) % len(names)
        found = [kept[kept["transform"] == name] for name in names[first:] + names[:first]]
        farthest = next((one.loc[one["magnitude"].abs().fillna(0).idxmax()] for one in found if len(one)), None)
        chosen.append(None if farthest is None else int(farthest["row"]))
    for others in (of_input.drop(kept.index), rows[rows["kind"] == "random"]):
        chosen.append(int(others["row"].iloc[int(others["probability"].to_numpy().argmax())]) if len(others) else None)
    return chosen


def perturbed_sheet(cell: CellMaps, method: MethodMaps, validity: Validity) -> Sheet:
    """Return the sheet of a method: what becomes of its maps of the images first drawn.

    Args:
        cell: what all methods share.
        method: one that is not left out.
        validity: which pixels of a map that was carried back are shown.
    """
    side = panel_side(len(CASES))
    rows, scores = cell.rows.set_index("row", drop=False), method.scores.set_index("row")
    lines: list[Line] = []
    for position, image in enumerate(cell.references["image"].head(IMAGES_SHOWN)):
        of_image = cell.rows[cell.rows["image"] == image]
        chosen: list[Any] = [None if row is None else rows.loc[row] for row in cases(of_image, position)]
        label = cell.class_name(of_image["label"].iloc[0])
        reference = chosen[0]
        assert reference is not None
        if reference["row"] not in method.place:
            lines.append(Line(label, empty="not among the images that it explains", apart=True))
            continue
        lines.append(Line(label, [_input(cell, row, reference, side) for row in chosen], note="what the model sees"))
        maps = [
            Panel(None) if row is None else _carried(cell, method, row, scores, validity=validity, side=side)
            for row in chosen
        ]
        lines.append(Line("map", maps, note="carried back", apart=True))
    return Sheet(f"{cell.name}: {method.name} under perturbation", TEXT, CASES, lines, scales([method.kind]))


def _input(cell: CellMaps, row: pd.Series | None, reference: pd.Series, side: int) -> Panel:
    if row is None:
        return Panel(None, ("no such row",))
    magnitude = np.nan if pd.isna(row["magnitude"]) else float(row["magnitude"])
    picture = perturb(cell.pictures[int(row["image"])], row["transform"], magnitude)
    words = (_perturbation(row), cell.predicted(row))
    return Panel(resized_picture(picture, side), words, row["prediction"] != reference["prediction"])


def _perturbation(row: pd.Series) -> str:
    if row["kind"] != "transform":
        return {"reference": "as it is", "random": "fresh weights"}[row["kind"]]
    if pd.isna(row["magnitude"]):
        return row["transform"]
    unit = {"rotate": "°", "translate_x": " px", "translate_y": " px"}.get(row["transform"])
    size = f"{row['magnitude']:+.2f}" if unit is None else f"{row['magnitude']:+.0f}{unit}"
    return f"{row['transform']} {size.replace('-', '−')}"


def _carried(
    cell: CellMaps, method: MethodMaps, row: pd.Series, scores: pd.DataFrame, *, validity: Validity, side: int
) -> Panel:
    at, image = int(row["row"]), int(row["image"])
    saliency = method.map_of(at, cell.side)
    assert saliency is not None
    magnitude = np.nan if pd.isna(row["magnitude"]) else float(row["magnitude"])
    carried, valid = carry_back(saliency, row["transform"], magnitude, validity)
    pixels = lay_over(cell.pictures[image], carried, method.kind, side, valid=valid)
    words = "the reference"
    if row["kind"] != "reference":
        words = f"SSIM {number(scores['ssim'][at])} · ρ {number(scores['spearman'][at])}"
    return Panel(pixels, (words,), outline=cell.objects.get(image))
