"""The localisation of a cell's maps: every metric, and the box study, for the reference rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from pipeline.core.params import Settings
from pipeline.data.decode import Interpolation, Pixels
from pipeline.data.framing import Reading
from pipeline.metrics.faithfulness import batch as faithfulness
from pipeline.metrics.faithfulness.measure import measure_rows, references
from pipeline.metrics.localisation.batch import Batch, LocalisationSettings
from pipeline.metrics.localisation.box_study import ALONE, OF_MAP, Part, box_pixels, part_of
from pipeline.metrics.localisation.boxes import Floats
from pipeline.metrics.localisation.cut_outs import CutOuts
from pipeline.metrics.localisation.metric import METRICS, Metric
from pipeline.metrics.localisation.objects import FrameObjects
from pipeline.metrics.localisation.tables import (
    BOX_STUDY,
    FLAT,
    LOCALISATION,
    NOTHING_POSITIVE,
    OUTSIDE,
    LocalisationParams,
)
from pipeline.models.classifier import Classifier
from pipeline.models.states import States
from pipeline.models.sweep import Positions, sweep
from pipeline.saliency.map_file import Map, Values, enlarge

CHUNK = 64
"""Maps looked at together."""
Maps = Sequence[npt.NDArray[Any]]


def undefined(metric: Metric, batch: Batch) -> list[str | None]:
    """Return why a metric is undefined for each map of a batch (N,), None if it is defined."""
    reasons = np.full(len(batch), None, object)
    if metric.reads != "order":
        reasons[~batch.positive.any(axis=(1, 2))] = NOTHING_POSITIVE
    if metric.reads != "mass":
        reasons[batch.flat] = FLAT
    if metric.truth == "boxes":
        reasons[~batch.objects.present.any(axis=1)] = OUTSIDE
    elif metric.truth == "mask":
        reasons[~batch.objects.masks.any(axis=(1, 2))] = OUTSIDE
    return reasons.tolist()


class AtSize(Sequence[Map]):
    """Maps at the size of their images, (side, side), each read when it is asked for."""

    def __init__(self, maps: Maps, at: npt.NDArray[np.int64], side: int, values: Values) -> None:
        """Choose the maps at some positions."""
        self._maps, self._at, self._side, self._values = maps, at, side, values

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, position: Any) -> Any:
        return enlarge(self._maps[self._at[position]], self._side, self._values)


def measure_localisation(
    chosen: LocalisationParams,
    states: States | None,
    rows: pd.DataFrame,
    pictures: Mapping[int, Pixels],
    *,
    maps: Maps,
    objects: FrameObjects,
    values: Values,
    interpolation: Interpolation,
) -> pd.DataFrame:
    """Measure how well the maps of the reference rows lie on the objects.

    Args:
        chosen: which metrics, and how maps are compared with ground truth.
        states: of the model; None if no metric evaluates it.
        rows: those of the table ``rows`` that there are maps of; rows of other kinds are passed over.
        pictures: the unperturbed images, uint8 (side, side, 3), by their number.
        maps: one per row, in the same order; read one by one.
        objects: on the images.
        values: what kind of values the maps have.
        interpolation: the filter that the model's pictures are resized with.

    Returns:
        The table `LOCALISATION`, without rows where no image has ground truth that a metric needs.

    Raises:
        UserError: nothing is said of an image's objects, the model gives scores that are not finite, or memory
            ran out for a single row.
    """
    at = references(rows)
    references_alone = rows.iloc[at].reset_index(drop=True)
    side = next(iter(pictures.values())).shape[0]
    looked = _Looked(chosen, references_alone, AtSize(maps, at, side, values), objects)
    scores = None
    if any(METRICS[name].forward for name in chosen.metrics):
        assert states is not None, "a metric evaluates the model"
        scores = _scores(looked, states, pictures, interpolation)
    lines: list[dict[str, Any]] = []
    for start in range(0, len(references_alone), CHUNK):
        batch = looked.batch(start, scores)
        for name in chosen.metrics:
            lines += _lines(name, batch, references_alone.iloc[start : start + CHUNK])
    return LOCALISATION.from_lines(lines)


@dataclass(frozen=True)
class _Looked:
    """What is looked at, some maps at a time."""

    settings: LocalisationSettings
    rows: pd.DataFrame
    maps: AtSize
    objects: FrameObjects

    def batch(self, start: int, scores: Floats | None) -> Batch:
        rows = self.rows.iloc[start : start + CHUNK]
        maps = np.stack([self.maps[position] for position in range(start, start + len(rows))])
        right = (rows["prediction"] == rows["label"]).to_numpy(bool)
        here = None if scores is None else scores[start : start + len(rows)]
        return Batch(maps, self.objects.of(rows["image"].tolist()), self.settings, right, here)


def _scores(looked: _Looked, states: States, pictures: Mapping[int, Pixels], interpolation: Interpolation) -> Floats:
    """Return the softmax score of the explained class on each map's box, cut out of the picture, (N,)."""
    rows = looked.rows
    boxes = np.concatenate([looked.batch(start, None).map_boxes for start in range(0, len(rows), CHUNK)])
    cut = CutOuts(pictures, dict(zip(rows["image"].tolist(), boxes.tolist(), strict=True)), interpolation)
    targets = rows["prediction"].to_numpy()

    def ask(model: Classifier, images: torch.Tensor, positions: Positions) -> torch.Tensor:
        of_rows = torch.tensor(targets[positions]).to(images.device)
        asked = faithfulness.Batch(model, images, of_rows, None, [0] * len(images))
        return asked.scores(1, lambda rows, _: images[rows])[:, 0]

    scores = np.zeros(len(rows))
    for positions, found in sweep(states, rows, cut, ask, at_once=1, what="look"):
        scores[positions] = found
    return scores


def _lines(name: str, batch: Batch, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a metric's lines of the table `LOCALISATION` for a batch; an undefined map has one, at nothing."""
    metric = METRICS[name]
    truth = {"boxes": batch.objects.boxed, "mask": batch.objects.masked, "none": np.ones(len(batch), bool)}
    has_truth = truth[metric.truth]
    reasons = undefined(metric, batch)
    with np.errstate(invalid="ignore", divide="ignore"):  # of maps that are undefined, which are not read
        computed = metric.compute(batch).reshape(len(batch), -1)
    at = metric.at(batch.settings, batch.shape[1])
    places: list[float | None] = [None] if at is None else at.tolist()
    return [
        {
            "row": row,
            "turn": turn,
            "metric": name,
            "at": None if reason else place,
            "value": None if reason else float(value),
            "reason": reason,
        }
        for row, turn, of_map, reason, here in zip(
            rows["row"].tolist(), rows["turn"].tolist(), computed, reasons, has_truth.tolist(), strict=True
        )
        if here
        for place, value in ([(None, np.nan)] if reason else zip(places, of_map, strict=True))
    ]


def study_boxes(
    settings: Mapping[str, Settings],
    states: States,
    rows: pd.DataFrame,
    pictures: Mapping[int, Pixels],
    *,
    objects: FrameObjects,
    chosen: LocalisationSettings,
    seed: int,
    maps: Maps | None = None,
    values: Values = "unit",
) -> pd.DataFrame:
    """Measure what is left of the score when a picture is masked with its boxes or the rest, or with a map cut to them.

    Args:
        settings: of each masking metric, by its name.
        states: of the model.
        rows: a table ``rows``; where there are maps, those that there are maps of. Only reference rows count, and of
            those the images of which a box is in the frame.
        pictures: the unperturbed images, uint8 (side, side, 3), by their number.
        objects: on the images.
        chosen: says which pixels are in the boxes.
        seed: the user's.
        maps: one per row; None to measure the boxes themselves.
        values: what kind of values they have.

    Returns:
        The table `BOX_STUDY`: the parts ``map``, ``map_inside_box`` and ``map_outside_box``, or without maps ``box``
        and ``outside_box``.

    Raises:
        UserError: as `pipeline.metrics.faithfulness.measure.measure_rows`.
    """
    side = next(iter(pictures.values())).shape[0]
    references_alone = references(rows)
    images = rows["image"].iloc[references_alone].tolist()
    left = [bool(objects.of([image]).present.any()) for image in images]
    at = references_alone[np.array(left, bool)]
    if not len(at) or not settings:
        return BOX_STUDY.from_lines([])
    studied = rows.iloc[at].reset_index(drop=True)
    whole = None if maps is None else AtSize(maps, at, side, values)
    parts: list[dict[str, Any]] = []
    for part in ALONE if whole is None else OF_MAP:
        cut = _Cut(part, whole, studied["image"].tolist(), objects, reading=chosen.reading, side=side)
        found = measure_rows(settings, states, studied, pictures, maps=cut, values=values, seed=seed)
        parts += [
            {str(name): None if pd.isna(value) else value for name, value in line.items()} | {"part": part}
            for line in found.drop(columns="at").to_dict("records")
        ]
    return BOX_STUDY.from_lines(parts)


class _Cut(Sequence[Map]):
    """A part of the study for every row, (side, side), made when it is asked for."""

    def __init__(
        self, part: Part, maps: AtSize | None, images: list[int], objects: FrameObjects, *, reading: Reading, side: int
    ) -> None:
        self._part, self._maps, self._images = part, maps, images
        self._objects, self._reading, self._side = objects, reading, side

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: Any) -> Any:
        pixels = box_pixels(self._objects.of([self._images[position]]), self._side, self._reading)[0]
        return part_of(self._part, pixels, np.ones(pixels.shape) if self._maps is None else self._maps[position])
