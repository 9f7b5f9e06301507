"""The loop over a cell's rows and the tables that it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.core.batches import batch_size
from pipeline.core.errors import UserError
from pipeline.core.suites import run_suite
from pipeline.core.tables import check, read, write
from pipeline.metrics.faithfulness.measure import measure_limits, measure_rows
from pipeline.metrics.faithfulness.metric import METRICS, probes_of
from pipeline.metrics.faithfulness.tables import FAITHFULNESS, LIMITS
from pipeline.models.cam_layer import CamLayer
from pipeline.models.classifier import Classifier
from tests.conftest import SIDE
from tests.metrics.faithfulness.world import OneState, measured, one, small, table

EVERY = {name: small(name) for name in METRICS}
MAPS = np.random.default_rng(0).random((5, SIDE, SIDE))


class Counting(Classifier):
    """Notes how many pictures it is given."""

    seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Counting.seen += len(images)
        return super().forward(images)


def test_all_metrics_together_make_a_table_that_passes_its_suite(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor, tmp_path: Any
) -> None:
    maps = MAPS.copy()
    maps[2] = 0.5
    found = measured(list(METRICS), convnet, pixels, targets.numpy(), maps)
    write(FAITHFULNESS, tmp_path / "faithfulness.parquet", found)
    again = read(FAITHFULNESS, tmp_path / "faithfulness.parquet")
    pd.testing.assert_frame_equal(again, found, check_dtype=False)
    assert set(found["metric"]) == set(METRICS)
    undefined = found[found["value"].isna()]
    assert set(undefined["row"]) == {102}
    assert {name for name in METRICS if METRICS[name].orders} <= set(undefined["metric"])


def test_a_value_needs_no_reason_and_nothing_needs_one(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor
) -> None:
    found = measured("average_drop", convnet, pixels, targets.numpy(), MAPS)
    for wrong in (
        found.assign(reason="none needed"),
        found.assign(value=pd.array([None] * 5, dtype="Float64")),
        pd.concat([found, found]),
    ):
        with pytest.raises(UserError, match=r"reason|twice"):
            check(FAITHFULNESS, wrong.reset_index(drop=True), "here")
        with pytest.raises(UserError, match="faithfulness"):
            run_suite(FAITHFULNESS, wrong.reset_index(drop=True), "here")


def test_shared_questions_are_asked_once(convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor) -> None:
    shared = probes_of(EVERY)
    assert len(shared) == len(set(shared)) < sum(len(METRICS[name].probes(own)) for name, own in EVERY.items())
    counting = Counting(convnet.network, (0.5,) * 3, (0.5,) * 3, convnet.cam).eval()
    names = ["average_drop", "average_gain", "average_increase", "road_morf", "road_lerf", "road_combined"]
    Counting.seen = 0
    measured(names, counting, pixels[:1], [0], MAPS[:1])
    asked = 2 + 2 * 3  # the picture as it is once, and not with each metric
    in_a_batch = batch_size(SIDE, torch.device("cpu")) // asked  # filled up with the one row
    assert Counting.seen == in_a_batch * asked
    assert METRICS["road_combined"].forward(small("road_combined"), SIDE) == 2 * 3


def test_only_reference_rows_are_measured(convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor) -> None:
    alone = measured(list(METRICS), convnet, pixels, targets.numpy(), MAPS)
    other = table(5, [0] * 5, "transform").assign(row=np.arange(5), transform="rotate", magnitude=30.0)
    other["magnitude"] = other["magnitude"].astype("Float64")
    rows = pd.concat([other, table(5, targets.numpy())]).reset_index(drop=True)
    mixed = measured(list(METRICS), convnet, pixels, targets.numpy(), np.concatenate([1 - MAPS, MAPS]), rows=rows)
    pd.testing.assert_frame_equal(mixed, alone)


def test_smaller_maps_are_enlarged_as_they_are_read(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor
) -> None:
    from pipeline.saliency.map_file import enlarge

    small_maps = MAPS[:, ::4, ::4].astype(np.float16)
    large = np.stack([enlarge(map_, SIDE, "unit") for map_ in small_maps])
    first, second = (measured(list(METRICS), convnet, pixels, targets.numpy(), maps) for maps in (small_maps, large))
    pd.testing.assert_frame_equal(first, second)


def test_a_model_that_gives_no_numbers_is_an_error(pixels: np.ndarray) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE**2, 2))
    broken = Classifier(network, (0.5,) * 3, (0.5,) * 3, CamLayer("1", "channels_first", None)).eval()
    broken.network[1].weight.data[:] = torch.nan
    with pytest.raises(UserError, match="not a finite number"):
        measured("deletion", broken, pixels, [0] * 5, MAPS)


def test_limits_are_of_a_cell_and_not_of_its_methods(
    convnet: Classifier, pixels: np.ndarray, targets: torch.Tensor
) -> None:
    states: Any = OneState(convnet)
    rows, pictures = table(5, targets.numpy()), dict(enumerate(pixels))
    limits = measure_limits(EVERY, states, rows, pictures, seed=0)
    check(LIMITS, limits, "here")
    run_suite(LIMITS, limits, "here")
    assert set(limits["metric"]) == {name for name in METRICS if METRICS[name].limits}
    nothing = measure_limits({"deletion": small("deletion")}, states, rows, pictures, seed=0)
    check(LIMITS, nothing, "here")
    assert len(nothing) == 0
    chosen = {"deletion_normalized": small("deletion_normalized")}
    for wrong in (None, nothing, limits[limits["row"] != 103]):
        with pytest.raises(UserError, match="no limits of deletion_normalized"):
            measure_rows(chosen, states, rows, pictures, maps=list(MAPS), values="unit", seed=0, limits=wrong)
    shuffled = limits.sample(frac=1, random_state=0)
    first, second = (
        measure_rows(chosen, states, rows, pictures, maps=list(MAPS), values="unit", seed=0, limits=one)
        for one in (limits, shuffled)
    )
    pd.testing.assert_frame_equal(first, second)
    assert np.isfinite(one(first, "deletion_normalized")).all()
