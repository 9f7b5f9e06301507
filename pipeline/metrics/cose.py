"""From scores to the benchmark's numbers: consistency, sensitivity and COSE, with counts and intervals.

Two protocols read the same rows.

``paper`` is the published aggregation. Consistency: the mean similarity of all input-transform rows whose image and
perturbed image are both classified rightly. Fidelity: the mean of all rows, whatever was perturbed, whose image is
classified rightly and whose perturbed prediction is another. Sensitivity is 1 - fidelity, COSE the root of
consistency times sensitivity. Every row counts once, so images and transforms that break often weigh more; images
that the model gets wrong do not count at all; and where the product is negative there is no COSE.

``balanced`` mends that. A row is unchanged or changed by its prediction alone, right or wrong. Rows are averaged per
image and perturbation (a transform, the random model, the checkpoints, the networks with randomised layers), then over
images, then over perturbations, so each perturbation weighs the same and within it each image. Before the root,
consistency and sensitivity are cut to [0, 1], so there is always a root.

Rows whose similarity is undefined (flat maps) are left out and counted. A mean of no rows is None. Intervals are
percentile bootstraps over images, which are what was drawn at random; all numbers of a dataset are resampled with the
same images, so their differences can be paired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from pipeline.core.errors import UserError
from pipeline.core.params import Fraction, Settings
from pipeline.core.randomness import generator
from pipeline.data.transforms import TRANSFORMS
from pipeline.metrics.scores import SIMILARITIES

PROTOCOLS = ("paper", "balanced")
GROUPS = {
    "consistency": "mean similarity of input transforms that keep the prediction (and, in `paper`, keep it right)",
    "consistency_geometric": "the same, geometric transforms only",
    "consistency_photometric": "the same, photometric transforms only",
    "sensitivity": "1 - mean similarity of rows that change the prediction",
    "sensitivity_image": "the same, input transforms only",
    "sensitivity_model": "the same, other states of the model only",
    "sensitivity_random": "the same, random models only",
    "sensitivity_checkpoints": "the same, checkpoints only",
    "sensitivity_layers": "the same, networks whose last stages are randomised only",
}
"""The means of the benchmark; see the head of this module."""

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]


class StatisticsSettings(Settings):
    """How intervals are drawn."""

    resamples: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Fraction


@dataclass(frozen=True)
class Mean:
    """A mean with its bootstrap replicates and what it rests on.

    Attributes:
        value: the mean, None of no rows.
        replicates: the mean in every resample, NaN where a resample has no rows.
        rows: rows with a defined similarity.
        images: images with such rows.
        undefined: rows without.
    """

    value: float | None
    replicates: Floats
    rows: int
    images: int
    undefined: int

    def complement(self) -> Mean:
        """Return 1 - mean: sensitivity from fidelity."""
        value = None if self.value is None else 1 - self.value
        return Mean(value, 1 - self.replicates, self.rows, self.images, self.undefined)


def select(scores: pd.DataFrame, protocol: str) -> dict[str, Rows]:
    """Return which rows belong to each group of `GROUPS`.

    Args:
        scores: the table ``scores`` of one cell.
        protocol: "paper" or "balanced".

    Returns:
        A boolean array (rows,) per group; those of sensitivity select the changed rows, whose mean is the fidelity.
    """
    kind = scores["kind"].to_numpy()
    transform = scores["transform"].to_numpy()
    kept = (scores["prediction"] == scores["reference_prediction"]).to_numpy()
    changed = ~kept
    if protocol == "paper":
        right = (scores["label"] == scores["reference_prediction"]).to_numpy()
        kept, changed = kept & right, changed & right
    geometric = np.array([name in TRANSFORMS and TRANSFORMS[name].kind == "geometric" for name in transform], bool)
    on_input = kind == "transform"
    return {
        "consistency": kept & on_input,
        "consistency_geometric": kept & on_input & geometric,
        "consistency_photometric": kept & on_input & ~geometric,
        "sensitivity": changed & (kind != "reference"),
        "sensitivity_image": changed & on_input,
        "sensitivity_model": changed & np.isin(kind, ["random", "checkpoint", "layers"]),
        "sensitivity_random": changed & (kind == "random"),
        "sensitivity_checkpoints": changed & (kind == "checkpoint"),
        "sensitivity_layers": changed & (kind == "layers"),
    }


def resample(images: int, settings: StatisticsSettings, seed: int, dataset: str) -> Floats:
    """Return how often each image of a dataset's plan is drawn in each resample.

    Args:
        images: how many the plan has. A method that explains only those first drawn has the weights of these in the
            same resamples, so that differences between methods stay paired.
        settings: how many resamples.
        seed: the user's.
        dataset: its name.

    Returns:
        float64 (resamples, images), the images in the order in which they were drawn.
    """
    rng = generator(seed, "bootstrap", dataset)
    drawn = rng.multinomial(images, np.full(images, 1 / images), settings.resamples)
    return drawn.astype(np.float64)


def mean_of(
    values: Floats, images: npt.NDArray[np.int64], strata: npt.NDArray[np.int64] | None, weights: Floats
) -> Mean:
    """Return the mean of some rows.

    Args:
        values: similarity of each row, NaN where undefined.
        images: position of each row's image among the columns of ``weights``.
        strata: perturbation of each row, numbered from 0, for the balanced mean; None for the plain mean of the rows.
        weights: see `resample`.

    Returns:
        The mean of the rows; or, with strata, the mean over strata of the mean over images of the mean over rows.
    """
    defined = ~np.isnan(values)
    undefined = int((~defined).sum())
    values, images = values[defined], images[defined]
    if not len(values):
        return Mean(None, np.full(len(weights), np.nan), 0, 0, undefined)
    columns = np.zeros(len(values), np.int64) if strata is None else strata[defined]
    shape = (weights.shape[1], int(columns.max()) + 1)
    cells = np.ravel_multi_index((images, columns), shape)
    sums = np.bincount(cells, values, math.prod(shape)).reshape(shape).astype(np.float64)
    counts = np.bincount(cells, minlength=math.prod(shape)).reshape(shape).astype(np.float64)
    if strata is not None:
        present = counts > 0
        sums, counts = np.where(present, sums / np.maximum(counts, 1), 0), present.astype(np.float64)
    value = math.fsum(values) / len(values) if strata is None else float(_mean_over_strata(sums, counts, None))
    replicates = _mean_over_strata(sums, counts, weights)
    return Mean(value, replicates, len(values), len(np.unique(images)), undefined)


def _mean_over_strata(sums: Floats, counts: Floats, weights: Floats | None) -> Floats:
    total, count = (sums.sum(0), counts.sum(0)) if weights is None else (weights @ sums, weights @ counts)
    present = count > 0
    means = np.where(present, total / np.where(present, count, 1), 0)
    strata = present.sum(axis=-1)
    return np.where(strata > 0, means.sum(axis=-1) / np.maximum(strata, 1), np.nan)


def root(consistency: Floats, sensitivity: Floats, protocol: str) -> Floats:
    """Return the root of the products, NaN where there is none; see the module for the protocols."""
    if protocol == "balanced":
        consistency, sensitivity = np.clip(consistency, 0, 1), np.clip(sensitivity, 0, 1)
    product_ = consistency * sensitivity
    allowed = (consistency >= 0) & (sensitivity >= 0)
    return np.where(allowed, np.sqrt(np.where(allowed, product_, 0)), np.nan)


def interval(replicates: Floats, images: int, confidence: float) -> tuple[float | None, float | None]:
    """Return the central part of the replicates; None if one image or none carries the mean."""
    defined = replicates[~np.isnan(replicates)]
    if images < 2 or not len(defined):
        return None, None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def summarize(
    scores: pd.DataFrame, images: int, settings: StatisticsSettings, seed: int, *, dataset: str
) -> list[dict[str, Any]]:
    """Return the numbers of one cell.

    Args:
        scores: the table ``scores``.
        images: how many the plan has.
        settings: resamples and confidence.
        seed: the user's seed.
        dataset: its name; cells of a dataset share their resamples.

    Returns:
        One mapping per protocol and similarity, with the columns of the table ``cose`` except the cell's names.

    Raises:
        UserError: the scores are of a larger plan.
    """
    of_row = scores["turn"].to_numpy()
    if of_row.max() >= images:
        raise UserError(
            f"scores of {dataset}",
            f"found an image with turn {of_row.max()}",
            expected=f"less than {images} (plan.images)",
            fix="`dvc repro` makes them again",
        )
    weights = resample(images, settings, seed, dataset)
    perturbation = np.where(scores["kind"] == "transform", scores["transform"], scores["kind"]).astype(str)
    strata = np.unique(perturbation, return_inverse=True)[1]
    lines = []
    for protocol, similarity in product(PROTOCOLS, SIMILARITIES):
        values = scores[similarity].to_numpy(dtype=np.float64, na_value=np.nan)
        means = {}
        for name, rows in select(scores, protocol).items():
            chosen = strata[rows] if protocol == "balanced" else None
            mean = mean_of(values[rows], of_row[rows], chosen, weights)
            means[name] = mean.complement() if name.startswith("sensitivity") else mean
        lines.append({"protocol": protocol, "similarity": similarity, **_line(means, protocol, settings.confidence)})
    return lines


def _line(means: dict[str, Mean], protocol: str, confidence: float) -> dict[str, Any]:
    consistency, sensitivity = means["consistency"], means["sensitivity"]
    line: dict[str, Any] = {"cose": None}
    if consistency.value is not None and sensitivity.value is not None:
        value = float(root(np.array(consistency.value), np.array(sensitivity.value), protocol))
        line["cose"] = None if math.isnan(value) else value
    replicates = root(consistency.replicates, sensitivity.replicates, protocol)
    both = min(consistency.images, sensitivity.images) if line["cose"] is not None else 0
    line["cose_low"], line["cose_high"] = interval(replicates, both, confidence)
    for name in GROUPS:
        mean = means[name]
        low, high = interval(mean.replicates, mean.images, confidence)
        line |= {
            name: mean.value,
            f"{name}_low": low,
            f"{name}_high": high,
            f"{name}_rows": mean.rows,
            f"{name}_images": mean.images,
            f"{name}_undefined": mean.undefined,
        }
    return line


def by_perturbation(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the mean similarity per perturbation and outcome, the columns of the table ``transforms``."""
    perturbation = np.where(scores["kind"] == "transform", scores["transform"], scores["kind"]).astype(str)
    kept = np.where(scores["prediction"] == scores["reference_prediction"], "kept", "changed").astype(str)
    right = np.where(scores["label"] == scores["reference_prediction"], "_right", "_wrong").astype(str)
    outcome = np.char.add(kept, right)
    lines = []
    for similarity in SIMILARITIES:
        values = scores[similarity].to_numpy(dtype=np.float64, na_value=np.nan)
        for name, ended in sorted(set(zip(perturbation.tolist(), outcome.tolist(), strict=True))):
            chosen = values[(perturbation == name) & (outcome == ended)]
            defined = chosen[~np.isnan(chosen)]
            mean = math.fsum(defined) / len(defined) if len(defined) else None
            lines.append(
                {
                    "similarity": similarity,
                    "perturbation": name,
                    "outcome": ended,
                    "mean": mean,
                    "rows": len(defined),
                    "undefined": len(chosen) - len(defined),
                }
            )
    return lines
