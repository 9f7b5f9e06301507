"""Plan, predictions, maps and scores together, with methods whose COSE is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.core import batches
from pipeline.core.errors import UserError
from pipeline.core.randomness import stream_seed
from pipeline.core.tables import check
from pipeline.data.perturb import apply_each
from pipeline.data.transforms import TRANSFORMS
from pipeline.metrics import cose
from pipeline.metrics.cose import StatisticsSettings
from pipeline.metrics.map_pairs import explained as rows_explained
from pipeline.metrics.map_pairs import score_rows
from pipeline.metrics.scores import SCORES
from pipeline.metrics.similarity import SimilaritySettings
from pipeline.models.cell import ROWS, first_images
from pipeline.models.classifier import Classifier
from pipeline.models.prediction import predict, rows_of
from pipeline.models.states import States
from pipeline.models.trained import load_state
from pipeline.saliency.explain import explain_rows
from pipeline.saliency.explanations import INDEX
from pipeline.saliency.map_file import Maps, decode
from pipeline.saliency.method import METHODS
from tests.chain.conftest import CHECKPOINTS, PLAN, explained, predicted, states_in
from tests.conftest import SIDE, small_convnet
from tests.settings import SMALL


def run_chain(
    method: Callable[..., torch.Tensor],
    rows: pd.DataFrame,
    pictures: dict[int, np.ndarray],
    weights: Path,
    folder: Path,
    values: Any = "unit",
) -> pd.DataFrame:
    path = folder / "maps.npy"
    index = explain_rows(
        states_in(weights), rows, pictures, method, values=values, storage="float16", at_once=1, seed=0, maps_path=path
    )
    check(INDEX, index, "test")
    settings = SimilaritySettings(window=5, validity="whole")
    scores = score_rows(
        rows_explained(rows, index, path), Maps(path, index, values, SIDE), values, SIDE, settings=settings
    )
    check(SCORES, scores, "test")
    return scores


def test_predictions_are_each_states_own(rows: pd.DataFrame, pictures: dict[int, np.ndarray], weights: Path) -> None:
    check(ROWS, rows, "test")
    assert set(rows["state"]) == {"trained", "random", "epoch_001", "epoch_006"}
    model = small_convnet()
    for at in (0, 17, len(rows) - 1, len(rows) // 2):
        row = rows.iloc[at]
        load_state(model, weights / f"{row['state']}.safetensors")
        magnitude = np.array([np.nan if pd.isna(row["magnitude"]) else row["magnitude"]])
        image = apply_each(pictures[row["image"]][None], np.array([row["transform"]], dtype=object), magnitude)
        scores = model(model.normalize(image)).softmax(1)[0]
        assert row["prediction"] == int(scores.argmax())
        assert row["probability"] == pytest.approx(float(scores.max()), abs=1e-5)


SETTINGS = StatisticsSettings(resamples=100, confidence=0.95)


def summarize(scores: pd.DataFrame) -> list[dict[str, Any]]:
    return cose.summarize(scores, PLAN.images, SETTINGS, 0, dataset="chain")


def test_a_map_that_follows_the_picture_is_perfectly_consistent(rows, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    # Photometric transforms change the picture, so the fake looks at geometry alone: a map fixed to the image that
    # the transform's own geometry moves. Nearest-neighbour rotation makes it approximate there.
    marks = {number: np.random.default_rng(number).integers(1, 256, (SIDE, SIDE)) for number in pictures}
    known = {stream_seed(0, "explain", int(row.row)): row for row in rows.itertuples()}

    def follows(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        maps = []
        for row in (known[seed] for seed in seeds):
            mark = np.repeat(marks[row.image][..., None], 3, axis=2).astype(np.uint8)
            if row.transform in TRANSFORMS and TRANSFORMS[row.transform].kind == "geometric":
                magnitude = np.nan if pd.isna(row.magnitude) else row.magnitude
                mark = apply_each(mark[None], np.array([row.transform], dtype=object), np.array([magnitude]))[0]
            maps.append(mark[..., 0] / 255)
        return torch.from_numpy(np.stack(maps)).float()

    scores = run_chain(follows, rows, pictures, weights, tmp_path)
    exact = scores[(scores["kind"] == "transform") & (scores["transform"] != "rotate")]
    np.testing.assert_allclose(exact["ssim"].to_numpy(float), 1, atol=1e-9)
    np.testing.assert_allclose(exact["spearman"].to_numpy(float), 1, atol=1e-9)
    for line in summarize(scores[scores["transform"] != "rotate"].assign(label=scores["reference_prediction"])):
        assert line["consistency"] == pytest.approx(1, abs=1e-9)
        assert line["consistency_rows"] > 20


def test_a_constant_method_is_undefined_and_counted(rows, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    def constant(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        return torch.full((len(images), SIDE, SIDE), 0.25)

    scores = run_chain(constant, rows, pictures, weights, tmp_path)
    assert scores["ssim"].isna().all()
    assert scores["spearman"].isna().all()
    for line in summarize(scores):
        assert line["cose"] is line["consistency"] is line["sensitivity"] is None
        assert line["consistency_rows"] == 0
    on_input = (scores["kind"] == "transform") & (scores["prediction"] == scores["reference_prediction"])
    assert summarize(scores)[-1]["consistency_undefined"] == on_input.sum() > 0


def test_a_random_method_is_near_zero(rows, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    def noise(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        drawn = [np.random.default_rng(seed).random((SIDE, SIDE)) for seed in seeds]
        return torch.from_numpy(np.stack(drawn)).float()

    scores = run_chain(noise, rows, pictures, weights, tmp_path)
    assert abs(scores["ssim"].mean()) < 0.05
    assert abs(scores["spearman"].mean()) < 0.02


def test_maps_do_not_depend_on_the_batch_beyond_rounding(rows, pictures, weights, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    results = []
    for batch in ("1", "7", "64"):
        monkeypatch.setenv("COSE_BATCH", batch)
        path = tmp_path / f"{batch}.npy"
        results.append(
            decode(explained("integrated_gradients", states_in(weights), rows, pictures, path)).astype(float)
        )
    np.testing.assert_allclose(results[0], results[1], atol=1e-2)
    np.testing.assert_allclose(results[0], results[2], atol=1e-2)


@pytest.mark.parametrize("name", METHODS)
def test_maps_are_the_same_to_the_last_bit_on_any_number_of_threads(  # type: ignore[no-untyped-def]
    name, rows, pictures, weights, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("COSE_BATCH", "16")
    results = []
    for threads in ("1", "4"):
        monkeypatch.setenv("COSE_THREADS", threads)
        results.append(explained(name, states_in(weights), rows, pictures, tmp_path / f"{threads}.npy"))
    np.testing.assert_array_equal(results[0], results[1])


class Narrow(torch.nn.Sequential):
    """A network for which there is memory for three images at most."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(images)


def test_memory_that_runs_out_on_all_threads_changes_nothing(rows, pictures, weights, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(batches, "_most", None)
    monkeypatch.setenv("COSE_THREADS", "4")
    settings = SMALL["integrated_gradients"]

    def explain(model, images, targets, seeds):  # type: ignore[no-untyped-def]
        return METHODS["integrated_gradients"].explain(model, images, targets, settings, seeds)

    results = []
    for network in (torch.nn.Sequential, Narrow):
        model = small_convnet()
        model.network.__class__ = network
        states = States(model, weights, SIDE)
        path = tmp_path / f"{network.__name__}.npy"
        explain_rows(
            states, rows, pictures, explain, values="unit", storage="float32", at_once=1, seed=0, maps_path=path
        )
        again = predict(states, rows.drop(columns=["prediction", "probability"]), pictures)
        pd.testing.assert_series_equal(again["prediction"], rows["prediction"])
        results.append(np.load(path))
    assert batches.batch_size(SIDE, torch.device("cpu")) <= 4
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


def test_a_map_with_nan_stops_the_run_and_names_the_row(rows, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    def broken(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        return torch.full((len(images), SIDE, SIDE), torch.nan)

    with pytest.raises(UserError, match=rf"row {rows['row'][0]}: the method gave a map with NaN or infinity"):
        run_chain(broken, rows, pictures, weights, tmp_path)


def test_a_method_may_explain_the_images_that_were_drawn_first(rows, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    method, settings = METHODS["grad_cam"], SMALL["grad_cam"]

    def explain(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        return method.explain(model, images, targets, settings, seeds)

    few = first_images(rows, 2)
    assert sorted(few["turn"].unique()) == [0, 1]
    assert len(few) == len(rows) // 3
    assert first_images(rows, "all") is rows
    scores = [run_chain(explain, some, pictures, weights, tmp_path) for some in (few, rows)]
    same = scores[1][scores[1]["row"].isin(few["row"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(scores[0], same)


def test_maps_of_other_rows_are_refused(rows) -> None:  # type: ignore[no-untyped-def]
    index = pd.DataFrame({"row": rows["row"], "state": rows["state"], "target": rows["prediction"]})
    path = Path("index.parquet")
    assert rows_explained(rows, index, path).equals(rows)
    with pytest.raises(UserError, match=r"^index.parquet: found \d+ rows that are not the cell's \d+ .*make verify"):
        rows_explained(rows, index.iloc[1:], path)
    with pytest.raises(UserError, match=rf"row {index['row'][3]}: the map explains another class or state"):
        rows_explained(rows, index.assign(target=index["target"].where(index.index != 3, 99)), path)


def test_a_model_may_lack_checkpoints(plan, splits, pictures, weights) -> None:  # type: ignore[no-untyped-def]
    labels = splits.set_index("image")["label"]
    everything = rows_of(plan, labels, {"checkpoint": CHECKPOINTS})
    assert everything["row"].tolist() == plan["row"].tolist()
    fewer = predicted(plan, splits, pictures, weights, {60: "epoch_006"})
    assert set(fewer["state"]) == {"trained", "random", "epoch_006"}
    assert len(fewer) == len(plan) - PLAN.images


@pytest.mark.parametrize(
    ("value", "values", "allowed"),
    [(-0.5, "unit", "0 to 1"), (1.5, "unit", "0 to 1"), (-1.5, "signed", "-1 to 1"), (0.5, "ternary", "-1, 0 and 1")],
)
def test_a_map_out_of_range_stops_the_run_and_names_the_row(  # type: ignore[no-untyped-def]
    value, values, allowed, rows, pictures, weights, tmp_path
) -> None:
    def broken(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        return torch.full((len(images), SIDE, SIDE), value)

    message = rf"row {rows['row'][0]}: the method gave a map with {value}; allowed: {allowed} \({values}\)"
    with pytest.raises(UserError, match=message):
        run_chain(broken, rows, pictures, weights, tmp_path, values)
