"""The faithfulness of a cell's maps: every metric, for the reference rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from pipeline.core.errors import UserError
from pipeline.core.params import Settings
from pipeline.core.randomness import stream_seed
from pipeline.data.decode import Pixels
from pipeline.metrics.faithfulness.batch import Answer, Batch, Method, Probe
from pipeline.metrics.faithfulness.metric import FLAT, METRICS, Reading, limits_of, probes_of
from pipeline.metrics.faithfulness.tables import FAITHFULNESS, LIMITS
from pipeline.models.classifier import Classifier
from pipeline.models.states import States
from pipeline.models.sweep import Positions, sweep
from pipeline.saliency.map_file import Values, enlarge

Maps = Sequence[npt.NDArray[Any]]


def references(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the positions of the unperturbed images under the trained model."""
    return np.flatnonzero(rows["kind"] == "reference")


def measure_rows(
    settings: Mapping[str, Settings],
    states: States,
    rows: pd.DataFrame,
    pictures: Mapping[int, Pixels],
    *,
    maps: Maps,
    values: Values,
    seed: int,
    method: Method | None = None,
    limits: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Measure the maps of the reference rows.

    Args:
        settings: of each metric that is measured, by its name.
        states: of the model.
        rows: those of the table ``rows`` that there are maps of; rows of other kinds are passed over.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        maps: one per row, in the same order; read one by one.
        values: what kind of values they have.
        seed: the user's; a row's own seed comes from it and the row's number.
        method: what made the maps, where a metric explains again.
        limits: the table ``limits`` of the cell, where a metric needs it.

    Returns:
        The table ``faithfulness`` (`pipeline.metrics.faithfulness.tables.FAITHFULNESS`).

    Raises:
        UserError: the model gives scores that are not finite, or memory ran out for a single row.
    """
    at = references(rows)
    chosen = rows.iloc[at].reset_index(drop=True)
    flat = np.array([bool(maps[place].min() == maps[place].max()) for place in at.tolist()], bool)

    def at_size(position: int) -> npt.NDArray[np.float64]:
        stored = maps[at[position]]
        return enlarge(stored, _side(pictures), values)

    answers = _ask(probes_of(settings), states, chosen, pictures, seed=seed, at_size=at_size, method=method)
    lines: list[dict[str, Any]] = []
    for name, own in settings.items():
        metric = METRICS[name]
        given = [answers[probe] for probe in metric.probes(own)]
        if metric.limits:
            given.append(_limits_of(limits, name, chosen["row"]))
        for reading in metric.read(given, own):
            lines += _lines(name, reading, chosen, flat if metric.orders else np.zeros_like(flat))
    return FAITHFULNESS.from_lines(lines)


def _lines(name: str, reading: Reading, rows: pd.DataFrame, flat: npt.NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    for row, turn, value, is_flat in zip(
        rows["row"].tolist(), rows["turn"].tolist(), reading.numbers.tolist(), flat.tolist(), strict=True
    ):
        reason = FLAT if is_flat else reading.undefined if np.isnan(value) else None
        if reason == "":
            raise ValueError(f"{name}: found NaN in row {row}; allowed: where the metric says what is undefined")
        yield {
            "row": row,
            "turn": turn,
            "metric": name,
            "at": reading.at,
            "value": None if reason else value,
            "reason": reason,
        }


def _limits_of(limits: pd.DataFrame | None, name: str, rows: pd.Series) -> Answer:
    found = None if limits is None else limits[limits["metric"] == name].set_index("row")
    if found is None or not rows.isin(found.index).all():
        raise UserError("table limits", f"found no limits of {name} for some image", fix="`dvc repro` makes them")
    return found.loc[rows, ["least", "greatest"]].to_numpy(np.float64)


def measure_limits(
    settings: Mapping[str, Settings],
    states: States,
    rows: pd.DataFrame,
    pictures: Mapping[int, Pixels],
    *,
    seed: int,
) -> pd.DataFrame:
    """Measure what does not depend on a map: the limits of every image, once for all methods.

    Args:
        settings: of each metric that is measured, by its name.
        states: of the model.
        rows: the table ``rows`` of the cell; rows other than the reference rows are passed over.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        seed: the user's.

    Returns:
        The table ``limits`` (`pipeline.metrics.faithfulness.tables.LIMITS`); without rows where no metric has limits.
    """
    chosen = rows.iloc[references(rows)].reset_index(drop=True)
    wanted = limits_of(settings)
    answers = _ask(wanted, states, chosen, pictures, seed=seed) if wanted else {}
    lines = [
        {"row": row, "metric": name, "least": least, "greatest": greatest}
        for name, own in settings.items()
        if (limits := METRICS[name].limits) is not None
        for row, (least, greatest) in zip(chosen["row"].tolist(), answers[limits(own)].tolist(), strict=True)
    ]
    return LIMITS.from_lines(lines)


def _side(pictures: Mapping[int, Pixels]) -> int:
    return next(iter(pictures.values())).shape[0]


def _ask(
    probes: Sequence[Probe],
    states: States,
    rows: pd.DataFrame,
    pictures: Mapping[int, Pixels],
    *,
    seed: int,
    at_size: Any = None,
    method: Method | None = None,
) -> dict[Probe, Answer]:
    """Return the answers to all probes for some rows, each (N, width)."""
    side = _side(pictures)
    targets, numbers = rows["prediction"].to_numpy(), rows["row"].to_numpy()

    def ask(model: Classifier, images: torch.Tensor, positions: Positions) -> torch.Tensor:
        batch = Batch(
            model,
            images,
            torch.tensor(targets[positions]).to(images.device),
            None if at_size is None else np.stack([at_size(position) for position in positions.tolist()]),
            [stream_seed(seed, "faithfulness", int(row)) for row in numbers[positions]],
            method,
            [stream_seed(seed, "explain", int(row)) for row in numbers[positions]],
        )
        return torch.cat([probe.ask(batch).to(images.device) for probe in probes], dim=1)

    widths = [probe.width(side) for probe in probes]
    again = 0 if method is None else method.at_once
    at_once = max(1, sum(probe.forward(side) + again * probe.explanations() for probe in probes))
    found = np.zeros((len(rows), sum(widths)))
    for positions, answers in sweep(states, rows, pictures, ask, at_once=at_once, what="measure"):
        found[positions] = answers
    ends = np.cumsum(widths)
    return {probe: found[:, end - width : end] for probe, width, end in zip(probes, widths, ends, strict=True)}
