"""Our numbers next to those of the paper: accuracies of the models, and COSE.

The published numbers are in percent and lie in ``published`` beside this file; one that is missing here is listed
with the reason, never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
from scipy.stats import binomtest

from pipeline.core.files import package_file
from pipeline.core.tables import lines_of
from pipeline.models.training_metrics import TrainingMetrics

Number = tuple[str, str, str]
"""The names of the dataset, the model and the method that a published number is of."""


def published(table: str) -> pd.DataFrame:
    """Return a published table, in percent: ``accuracy``, ``cose``, ``cose_average``, or one of ``opti_cam_*``."""
    return pd.read_csv(package_file(__file__, "published") / f"{table}.csv")


def accuracies(measured: Mapping[tuple[str, str, str], TrainingMetrics], confidence: float) -> pd.DataFrame:
    """Compare the accuracies of our models with the paper's.

    Args:
        measured: by cell, dataset and model, what the train stage wrote.
        confidence: of the intervals, in (0, 1).

    Returns:
        One row per cell: test_images, accuracy with its Wilson interval, published, and difference, all
        in percent; the last two are null where the paper has no such model or dataset.
    """
    known = published("accuracy").set_index(["dataset", "model"])["accuracy"]
    lines = []
    for (cell, dataset, model), metrics in measured.items():
        images, accuracy = metrics.test_images, 100 * metrics.test_accuracy
        interval = binomtest(round(metrics.test_accuracy * images), images).proportion_ci(confidence, "wilson")
        theirs = known.get((dataset, model))
        lines.append(
            {
                "cell": cell,
                "dataset": dataset,
                "model": model,
                "test_images": images,
                "accuracy": accuracy,
                "accuracy_low": 100 * interval.low,
                "accuracy_high": 100 * interval.high,
                "published": theirs,
                "difference": None if theirs is None else accuracy - theirs,
            }
        )
    return pd.DataFrame(lines).round(2)


def compare(ours: pd.DataFrame, why_missing: Callable[[Number], str]) -> pd.DataFrame:
    """Compare our Table 1 with the paper's.

    Args:
        ours: the table ``cose``; empty where nothing has been computed.
        why_missing: says why there is no number of ours.

    Returns:
        One row per number of the paper's, in its order: ours with its interval, published and difference, in percent,
        and the reason where ours is null.
    """
    chosen = ours[(ours["similarity"] == "ssim") & (ours["protocol"] == "paper")] if len(ours) else ours
    found = {(line.dataset, line.model, line.method): line for line in lines_of(chosen)}
    lines = []
    for theirs in lines_of(published("cose")):
        key = (theirs.dataset, theirs.model, theirs.method)
        line = found.get(key)
        here = line is not None and not pd.isna(line.cose)
        percent = {
            name: 100 * float(value) if here and not pd.isna(value := getattr(line, column)) else None
            for name, column in (("ours", "cose"), ("low", "cose_low"), ("high", "cose_high"))
        }
        lines.append(
            {
                **dict(zip(("dataset", "model", "method"), key, strict=True)),
                **percent,
                "published": theirs.cose,
                "difference": percent["ours"] - theirs.cose if percent["ours"] is not None else None,
                "missing": None if here else why_missing(key),
            }
        )
    table = pd.DataFrame(lines)
    numbers = ["ours", "low", "high", "published", "difference"]
    return table.astype(dict.fromkeys(numbers, "Float64")).round(dict.fromkeys(numbers, 2))


def average_cose(ours: pd.DataFrame) -> pd.DataFrame:
    """Compare our averages over the paper's cells with its Table A.1, which has both similarities.

    Args:
        ours: the table ``cose``; empty where nothing has been computed.

    Returns:
        One row per method and similarity: ours, the number of the paper's cells that it is the mean of, published and
        difference, in percent.
    """
    cells = set(published("cose")[["dataset", "model"]].itertuples(index=False, name=None))
    chosen = ours[(ours["protocol"] == "paper") & ours["cose"].notna()] if len(ours) else ours
    lines = []
    for theirs in lines_of(published("cose_average")):
        for similarity in ("ssim", "spearman"):
            found = [
                100 * float(line.cose)
                for line in lines_of(chosen)
                if (line.method, line.similarity) == (theirs.method, similarity) and (line.dataset, line.model) in cells
            ]
            mean, known = (sum(found) / len(found) if found else None), getattr(theirs, similarity)
            lines.append(
                {
                    "method": theirs.method,
                    "similarity": similarity,
                    "ours": mean,
                    "cells": len(found),
                    "published": known,
                    "difference": None if mean is None else mean - known,
                }
            )
    numbers = ["ours", "published", "difference"]
    return pd.DataFrame(lines).astype(dict.fromkeys(numbers, "Float64")).round(dict.fromkeys(numbers, 2))
