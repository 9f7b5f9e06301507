"""Our numbers next to those of the Opti-CAM poster: masking, localisation, and the box study.

Zhang et al., Opti-CAM: Optimizing saliency maps for interpretability, https://arxiv.org/abs/2301.07002. The published
numbers lie in ``published`` beside this file; they are in percent but for the saliency metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.results.comparison import Number, published

DATASET = "imagenet"
MODELS = {"ResNet50": "resnet50", "VGG16": "vgg16", "ViT-B": "vit_b16", "DeiT-B": "deit_b16"}
"""The poster's names of models, and those of profiles/opti_cam.yaml."""
IN_PERCENT = ("average_drop", "average_gain", "average_increase")
"""Metrics that are in percent here too; the others are parts of one, but for the saliency metric, which is neither."""
WITHOUT_UNIT = ("saliency_metric",)
NOTES = {
    "energy_pointing_game": "published with rows indexed by x and negative starts of boxes wrapped round",
    "localization_error": "published with boxes that are not clipped to the picture",
    "official_metric": "published with boxes that are not clipped to the picture",
    "pixel_f1": "published with boxes that are not clipped to the picture",
}
"""What is known about published numbers (docs/localisation.md)."""
BOX_NOTE = "published with rows of boxes indexed by x and negative starts wrapped round"


@dataclass(frozen=True)
class Study:
    """A table of the poster.

    Attributes:
        title: what it is.
        table: the name of its file in ``published``.
        ours: the name of the file in ``metrics`` that has ours.
        keys: what tells its numbers apart.
    """

    title: str
    table: str
    ours: str
    keys: tuple[str, ...]


STUDIES = (
    Study("Figure 2: masking", "opti_cam_classification", "faithfulness", ("model", "method", "metric")),
    Study("Figure 3: localisation", "opti_cam_localization", "localisation", ("model", "method", "metric")),
    Study("Figure 4: the box study", "opti_cam_box_study", "box_study", ("model", "method", "part", "metric")),
)


def compare_study(study: Study, ours: pd.DataFrame, why_missing: Callable[[Number], str]) -> pd.DataFrame:
    """Compare our numbers with one of the poster's tables.

    Args:
        study: which one.
        ours: the table in ``metrics``, with the columns dataset, model, method, part (of the box study), metric, at,
            mean, low and high; empty where nothing has been computed.
        why_missing: says why there is no number of ours.

    Returns:
        One row per number of the poster's, in its order: the keys, ours with its interval, published, difference (all
        in the poster's units), a note on the published number where one is due, and the reason where ours is null.
    """
    theirs = published(study.table)
    if "model" not in theirs:
        theirs = theirs.assign(model="VGG16")
    theirs = theirs.assign(model=theirs["model"].map(MODELS))
    found = {}
    if len(ours):
        chosen = ours[ours["dataset"] == DATASET]
        if "at" in chosen:
            chosen = chosen[chosen["at"].isna()]
        found = {tuple(line[key] for key in study.keys): line for line in chosen.to_dict("records")}
    lines = []
    for line in theirs.to_dict("records"):
        key = tuple(line[name] for name in study.keys)
        here = found.get(key, {"mean": None, "low": None, "high": None})
        is_here = not pd.isna(here["mean"])
        scale = 1 if line["metric"] in (*IN_PERCENT, *WITHOUT_UNIT) else 100
        values = {
            name: scale * here[column] if is_here and not pd.isna(here[column]) else None
            for name, column in (("ours", "mean"), ("low", "low"), ("high", "high"))
        }
        lines.append(
            {
                **dict(zip(study.keys, key, strict=True)),
                **values,
                "published": line["published"],
                "difference": values["ours"] - line["published"] if values["ours"] is not None else None,
                "note": BOX_NOTE if _with_boxes(line) else NOTES.get(line["metric"]),
                "missing": None if is_here else why_missing((DATASET, line["model"], line["method"])),
            }
        )
    numbers = ["ours", "low", "high", "published", "difference"]
    return pd.DataFrame(lines).astype(dict.fromkeys(numbers, "Float64")).round(dict.fromkeys(numbers, 2))


def _with_boxes(line: dict[Any, Any]) -> bool:
    """Say whether a number of the box study comes from a mask that was made with boxes."""
    return line.get("part", "map") != "map" or line["method"] in ("box", "outside_box")
