"""Aggregation against a table worked out by hand and against the published rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import UserError
from pipeline.core.tables import check
from pipeline.metrics import cose
from pipeline.metrics.cose import StatisticsSettings
from pipeline.metrics.scores import SCORES

IMAGES = 40
STATISTICS = StatisticsSettings(resamples=500, confidence=0.95)


def scores(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Rows of image, kind, transform, label, reference prediction, prediction, similarity."""
    frame = pd.DataFrame(
        rows, columns=["image", "kind", "transform", "label", "reference_prediction", "prediction", "ssim"]
    )
    frame["row"] = np.arange(len(frame))
    frame["turn"] = frame["image"]
    frame["magnitude"] = pd.array([None] * len(frame), dtype="Float64")
    frame["state"] = ["trained" if kind == "transform" else "random" for kind in frame["kind"]]
    frame["valid_pixels"] = 9
    frame["ssim"] = pd.array([None if s is None else s for s in frame["ssim"]], dtype="Float64")
    frame["spearman"] = frame["ssim"]
    columns = [
        "row",
        "turn",
        "image",
        "kind",
        "transform",
        "magnitude",
        "state",
        "label",
        "reference_prediction",
        "prediction",
        "valid_pixels",
        "ssim",
        "spearman",
    ]
    check(SCORES, frame[columns], "test")
    return frame[columns]


def numbers(frame: pd.DataFrame, protocol: str, similarity: str = "ssim") -> dict[str, Any]:
    lines = cose.summarize(frame, IMAGES, STATISTICS, 0, dataset="test")
    return next(line for line in lines if line["protocol"] == protocol and line["similarity"] == similarity)


BY_HAND = [
    # image 0 is right (label 1, predicted 1)
    (0, "transform", "rotate", 1, 1, 1, 0.9),  # kept, geometric
    (0, "transform", "rotate", 1, 1, 1, 0.5),  # kept, geometric
    (0, "transform", "blur", 1, 1, 1, 0.8),  # kept, photometric
    (0, "transform", "blur", 1, 1, 2, 0.4),  # changed
    (0, "random", "identity", 1, 1, 0, 0.1),  # changed
    (0, "checkpoint", "identity", 1, 1, 1, 0.95),  # unchanged model: in neither
    (0, "transform", "smooth", 1, 1, 1, None),  # flat map
    # image 1 is right (label 2)
    (1, "transform", "rotate", 2, 2, 2, 0.6),
    (1, "checkpoint", "identity", 2, 2, 3, 0.3),  # changed
    # image 2 is wrong (label 0, predicted 3)
    (2, "transform", "rotate", 0, 3, 3, 0.2),  # wrong but unchanged: balanced only
    (2, "transform", "blur", 0, 3, 0, 0.7),  # changed: balanced only
]


def test_paper_protocol_by_hand() -> None:
    line = numbers(scores(BY_HAND), "paper")
    assert line["consistency"] == pytest.approx((0.9 + 0.5 + 0.8 + 0.6) / 4, abs=1e-15)
    assert (line["consistency_rows"], line["consistency_images"], line["consistency_undefined"]) == (4, 2, 1)
    assert line["consistency_geometric"] == pytest.approx((0.9 + 0.5 + 0.6) / 3, abs=1e-15)
    assert line["consistency_photometric"] == pytest.approx(0.8)
    assert line["sensitivity"] == pytest.approx(1 - (0.4 + 0.1 + 0.3) / 3, abs=1e-15)
    assert line["sensitivity_rows"] == 3
    assert line["sensitivity_image"] == pytest.approx(0.6)
    assert line["sensitivity_model"] == pytest.approx(1 - 0.2)
    assert line["sensitivity_random"] == pytest.approx(0.9)
    assert line["sensitivity_checkpoints"] == pytest.approx(0.7)
    assert line["cose"] == pytest.approx(math.sqrt(0.7 * (1 - 0.8 / 3)), abs=1e-15)


def test_balanced_protocol_by_hand() -> None:
    line = numbers(scores(BY_HAND), "balanced")
    rotate = (np.mean([0.9, 0.5]) + 0.6 + 0.2) / 3
    assert line["consistency"] == pytest.approx((rotate + 0.8) / 2)
    assert (line["consistency_rows"], line["consistency_images"], line["consistency_undefined"]) == (5, 3, 1)
    fidelity = np.mean([np.mean([0.4, 0.7]), 0.1, 0.3])
    assert line["sensitivity"] == pytest.approx(1 - fidelity)
    assert line["cose"] == pytest.approx(math.sqrt((rotate + 0.8) / 2 * (1 - fidelity)))


def random_scores(seed: int, count: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["transform", "random", "checkpoint"], count, p=[0.7, 0.1, 0.2])
    names = rng.choice(["rotate", "flip_lr", "blur", "color"], count)
    rows = [
        (
            int(rng.integers(12)),
            kind,
            name if kind == "transform" else "identity",
            int(rng.integers(3)),
            int(rng.integers(3)),
            int(rng.integers(3)),
            float(np.round(rng.uniform(-0.2, 1), 6)),
        )
        for kind, name in zip(kinds, names, strict=True)
    ]
    return scores(rows)


@pytest.mark.parametrize("seed", range(5))
def test_paper_protocol_is_the_published_rule(seed: int) -> None:
    # The rule as the published scripts compute it: a filter and a mean.
    frame = random_scores(seed)
    right = frame[frame["label"] == frame["reference_prediction"]]
    kept = right[(right["kind"] == "transform") & (right["prediction"] == right["label"])]
    changed = right[right["prediction"] != right["label"]]
    consistency, fidelity = kept["ssim"].mean(), changed["ssim"].mean()
    line = numbers(frame, "paper")
    assert line["consistency"] == pytest.approx(consistency, abs=1e-14)
    assert line["sensitivity"] == pytest.approx(1 - fidelity, abs=1e-14)
    assert line["cose"] == pytest.approx(math.sqrt(consistency * (1 - fidelity)), abs=1e-14)
    assert line["consistency_rows"] == len(kept)
    assert line["sensitivity_rows"] == len(changed)


def test_negative_similarities() -> None:
    rows = [(i, "transform", "blur", 1, 1, 1, -0.2) for i in range(3)]
    rows += [(i, "random", "identity", 1, 1, 0, -0.5) for i in range(3)]
    paper, balanced = (numbers(scores(rows), protocol) for protocol in ("paper", "balanced"))
    assert paper["sensitivity"] == pytest.approx(1.5)
    assert paper["cose"] is None
    assert paper["cose_low"] is None
    assert balanced["cose"] == 0


def test_means_of_nothing_are_null_with_count_zero() -> None:
    line = numbers(scores([(0, "transform", "blur", 1, 1, 1, 0.5)]), "paper")
    assert line["consistency"] == 0.5
    assert line["consistency_low"] is None, "one image has no interval"
    assert line["sensitivity"] is None
    assert line["sensitivity_rows"] == 0
    assert line["cose"] is None
    everything_flat = numbers(scores([(i, "transform", "blur", 1, 1, 1, None) for i in range(4)]), "balanced")
    assert everything_flat["consistency"] is None
    assert everything_flat["consistency_undefined"] == 4
    assert not any(isinstance(value, float) and math.isnan(value) for value in everything_flat.values())


@pytest.mark.parametrize("protocol", ["paper", "balanced"])
def test_intervals_hold_the_value_and_repeat(protocol: str) -> None:
    frame = random_scores(1)
    line, again = numbers(frame, protocol), numbers(frame, protocol)
    assert line == again
    for name in ("cose", "consistency", "sensitivity", "sensitivity_image"):
        assert line[f"{name}_low"] < line[name] < line[f"{name}_high"], name


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    # 200 benchmarks of 40 images whose true consistency is 0.5; rows of an image share its level.
    rng = np.random.default_rng(0)
    settings = StatisticsSettings(resamples=300, confidence=0.9)
    covered = 0
    for trial in range(200):
        levels = rng.normal(0.5, 0.1, 40)
        values = (levels[:, None] + rng.normal(0, 0.05, (40, 3))).ravel()
        weights = cose.resample(40, settings, trial, "coverage")
        mean = cose.mean_of(values, np.repeat(np.arange(40), 3), None, weights)
        low, high = np.quantile(mean.replicates, [0.05, 0.95])
        covered += low <= 0.5 <= high
    assert 0.83 <= covered / 200 <= 0.96


def test_balanced_weighs_perturbations_alike() -> None:
    rows = [(i, "transform", "rotate", 1, 1, 1, 1.0) for i in range(30)] + [(0, "transform", "blur", 1, 1, 1, 0.0)]
    assert numbers(scores(rows), "paper")["consistency"] == pytest.approx(30 / 31)
    assert numbers(scores(rows), "balanced")["consistency"] == pytest.approx(0.5)


def test_outcomes_per_perturbation() -> None:
    lines = pd.DataFrame(cose.by_perturbation(scores(BY_HAND)))
    ssim = lines[lines["similarity"] == "ssim"].set_index(["perturbation", "outcome"])
    assert ssim.loc[("rotate", "kept_right"), "mean"] == pytest.approx((0.9 + 0.5 + 0.6) / 3)
    assert ssim.loc[("rotate", "kept_wrong"), "rows"] == 1
    assert ssim.loc[("smooth", "kept_right"), "undefined"] == 1
    assert ssim["rows"].sum() + ssim["undefined"].sum() == len(BY_HAND)


def test_the_images_drawn_first_are_resampled_as_in_the_whole_plan() -> None:
    # A method that explains few images and one that explains all share each image's weight in each resample.
    frame = random_scores(2)
    settings = StatisticsSettings(resamples=200, confidence=0.9)
    weights = cose.resample(12, settings, 0, "pairs")
    assert weights.shape == (200, 12)
    assert (weights.sum(axis=1) == 12).all()
    few = frame[frame["turn"] < 5]
    values, turns = few["ssim"].to_numpy(float), few["turn"].to_numpy()
    by_hand = [np.average(values, weights=one[turns]) if one[turns].any() else np.nan for one in weights]
    np.testing.assert_allclose(cose.mean_of(values, turns, None, weights).replicates, by_hand)
    # Where the maps are the same, so is the difference in every resample: zero.
    same = cose.mean_of(values, turns, None, weights).replicates
    within = frame["turn"].to_numpy() < 5
    both = cose.mean_of(
        np.where(within, frame["ssim"].to_numpy(float), np.nan), frame["turn"].to_numpy(), None, weights
    )
    np.testing.assert_allclose(both.replicates, same)


def test_scores_of_a_larger_plan_are_refused() -> None:
    with pytest.raises(UserError, match=r"found an image with turn 11; allowed: less than 5 \(plan\.images\)"):
        cose.summarize(random_scores(2), 5, STATISTICS, 0, dataset="test")


def test_more_resamples_or_images_keep_the_numbers() -> None:
    frame = random_scores(3)
    one, other = (cose.summarize(frame, images, STATISTICS, 0, dataset="test") for images in (12, 500))
    for a, b in zip(one, other, strict=True):
        assert a["cose"] == b["cose"]
        assert a["consistency"] == b["consistency"]
