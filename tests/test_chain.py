"""Plan, predictions, maps and scores together, with methods whose COSE is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import compute, cose
from pipeline.errors import UserError
from pipeline.explanation import explain_rows
from pipeline.maps import Maps
from pipeline.models import Classifier, save_state
from pipeline.params import PlanSettings, SimilaritySettings, StatisticsSettings
from pipeline.plan import draw_plan
from pipeline.prediction import predict
from pipeline.registry import METHODS
from pipeline.rows import in_first, in_states
from pipeline.scoring import explained as rows_explained
from pipeline.scoring import score_rows
from pipeline.tables import check
from pipeline.transforms import TRANSFORMS
from tests.conftest import CLASSES, SIDE, small_convnet
from tests.settings import SMALL

STATES = {10: "epoch_001", 60: "epoch_006"}
PLAN = PlanSettings(images=6, magnitudes=2, transforms=tuple(TRANSFORMS), checkpoints=(10, 60))


@pytest.fixture(scope="module")
def splits() -> pd.DataFrame:
    labels = np.arange(40) % CLASSES
    return pd.DataFrame(
        {"image": np.arange(40), "name": [str(i) for i in range(40)], "label": labels,
         "class_name": [str(label) for label in labels], "split": (["train"] * 3 + ["test"] * 2) * 8}
    )  # fmt: skip


@pytest.fixture(scope="module")
def plan(splits: pd.DataFrame) -> pd.DataFrame:
    return draw_plan(splits, PLAN, SIDE, 0, "chain")


@pytest.fixture(scope="module")
def pictures(plan: pd.DataFrame) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(1)
    return {int(i): rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for i in plan["image"].unique()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    model = small_convnet()
    save_state(model, folder / "trained.safetensors")
    for number, state in enumerate(("random", "epoch_001", "epoch_006")):
        other = small_convnet()
        torch.manual_seed(number)
        for parameter in other.parameters():
            parameter.data = torch.randn_like(parameter)
        save_state(other, folder / f"{state}.safetensors")
    return folder


@pytest.fixture(scope="module")
def predictions(
    plan: pd.DataFrame, splits: pd.DataFrame, pictures: dict[int, np.ndarray], weights: Path
) -> pd.DataFrame:
    return predict(small_convnet(), weights, plan, splits, pictures, STATES)


def run_chain(
    method: Callable[..., torch.Tensor], plan: pd.DataFrame, predictions: pd.DataFrame,
    pictures: dict[int, np.ndarray], weights: Path, folder: Path,
) -> pd.DataFrame:  # fmt: skip
    path = folder / "maps.npy"
    index = explain_rows(small_convnet(), weights, plan, predictions, pictures, method, "float16", 1, 0, path)
    check("index", index, "test")
    scores = score_rows(plan, predictions, index, Maps(path, len(plan)), SIDE, SimilaritySettings(window=5))
    check("scores", scores, "test")
    return scores


def test_predictions_are_each_states_own(
    plan: pd.DataFrame, predictions: pd.DataFrame, pictures: dict[int, np.ndarray], weights: Path
) -> None:
    check("predictions", predictions, "test")
    assert set(predictions["state"]) == {"trained", "random", "epoch_001", "epoch_006"}
    model = small_convnet()
    from pipeline.models import load_state
    from pipeline.transforms import apply_each

    for at in (0, 17, len(plan) - 1, len(plan) // 2):
        row = plan.iloc[at]
        load_state(model, weights / f"{predictions['state'][at]}.safetensors")
        magnitude = np.array([np.nan if pd.isna(row["magnitude"]) else row["magnitude"]])
        image = apply_each(pictures[row["image"]][None], np.array([row["transform"]], dtype=object), magnitude)
        scores = model(model.normalize(image)).softmax(1)[0]
        assert predictions["prediction"][at] == int(scores.argmax())
        assert predictions["probability"][at] == pytest.approx(float(scores.max()), abs=1e-5)


def test_a_map_that_follows_the_picture_is_perfectly_consistent(  # type: ignore[no-untyped-def]
    plan, predictions, pictures, weights, tmp_path, one_thread
) -> None:
    # Photometric transforms change the picture, so the fake looks at geometry alone: a map fixed to the image that
    # the transform's own geometry moves. Nearest-neighbour rotation makes it approximate there.
    marks = {number: np.random.default_rng(number).integers(1, 256, (SIDE, SIDE)) for number in pictures}
    rows = iter(plan.itertuples())

    def follows(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        maps = []
        for _ in seeds:
            row = next(rows)
            mark = np.repeat(marks[row.image][..., None], 3, axis=2).astype(np.uint8)
            if row.transform in TRANSFORMS and TRANSFORMS[row.transform].kind == "geometric":
                magnitude = np.nan if pd.isna(row.magnitude) else row.magnitude
                mark = TRANSFORMS[row.transform].apply(mark[None], np.array([magnitude]))[0]
            maps.append(mark[..., 0] / 255)
        return torch.from_numpy(np.stack(maps)).float()

    scores = run_chain(follows, plan, predictions, pictures, weights, tmp_path)
    exact = scores[(scores["kind"] == "transform") & (scores["transform"] != "rotate")]
    np.testing.assert_allclose(exact["ssim"].to_numpy(float), 1, atol=1e-9)
    np.testing.assert_allclose(exact["spearman"].to_numpy(float), 1, atol=1e-9)
    settings = StatisticsSettings(resamples=100, confidence=0.95)
    without_rotation = scores[scores["transform"] != "rotate"].assign(label=scores["reference_prediction"])
    for line in cose.summarize(without_rotation, settings, 0, "chain"):
        assert line["consistency"] == pytest.approx(1, abs=1e-9)
        assert line["consistency_rows"] > 20


def test_a_constant_method_is_undefined_and_counted(plan, predictions, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    def constant(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        return torch.full((len(images), SIDE, SIDE), 0.25)

    scores = run_chain(constant, plan, predictions, pictures, weights, tmp_path)
    assert scores["ssim"].isna().all()
    assert scores["spearman"].isna().all()
    settings = StatisticsSettings(resamples=100, confidence=0.95)
    for line in cose.summarize(scores, settings, 0, "chain"):
        assert line["cose"] is line["consistency"] is line["sensitivity"] is None
        assert line["consistency_rows"] == 0
    balanced = cose.summarize(scores, settings, 0, "chain")[-1]
    on_input = (scores["kind"] == "transform") & (scores["prediction"] == scores["reference_prediction"])
    assert balanced["consistency_undefined"] == on_input.sum() > 0


def test_a_random_method_is_near_zero(plan, predictions, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    def noise(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        drawn = [np.random.default_rng(seed).random((SIDE, SIDE)) for seed in seeds]
        return torch.from_numpy(np.stack(drawn)).float()

    scores = run_chain(noise, plan, predictions, pictures, weights, tmp_path)
    assert abs(scores["ssim"].mean()) < 0.05
    assert abs(scores["spearman"].mean()) < 0.02


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_THREADS", "1")


def explained(name: str, plan, predictions, pictures, weights, path: Path) -> np.ndarray:  # type: ignore[no-untyped-def]
    method, settings = METHODS[name], SMALL[name]

    def explain(model, images, targets, seeds):  # type: ignore[no-untyped-def]
        return method.explain(model, images, targets, settings, seeds)

    at_once = method.cost(settings).at_once
    explain_rows(small_convnet(), weights, plan, predictions, pictures, explain, method.storage, at_once, 0, path)
    return np.load(path).astype(float)


def test_maps_do_not_depend_on_the_batch(plan, predictions, pictures, weights, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    results = []
    for batch in ("1", "7", "64"):
        monkeypatch.setenv("COSE_BATCH", batch)
        results.append(
            explained("integrated_gradients", plan, predictions, pictures, weights, tmp_path / f"{batch}.npy")
        )
    np.testing.assert_allclose(results[0], results[1], atol=2e-3)
    np.testing.assert_allclose(results[0], results[2], atol=2e-3)


@pytest.mark.parametrize("name", METHODS)
def test_maps_are_the_same_to_the_last_bit_on_any_number_of_threads(  # type: ignore[no-untyped-def]
    name, plan, predictions, pictures, weights, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("COSE_BATCH", "16")
    results = []
    for threads in ("1", "4"):
        monkeypatch.setenv("COSE_THREADS", threads)
        results.append(explained(name, plan, predictions, pictures, weights, tmp_path / f"{threads}.npy"))
    np.testing.assert_array_equal(results[0], results[1])


class Narrow(torch.nn.Sequential):
    """A network for which there is memory for three images at most."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(images)


def test_memory_that_runs_out_on_all_threads_changes_nothing(  # type: ignore[no-untyped-def]
    plan, splits, predictions, pictures, weights, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(compute, "_most", None)
    monkeypatch.setenv("COSE_THREADS", "4")
    settings = SMALL["integrated_gradients"]

    def explain(model, images, targets, seeds):  # type: ignore[no-untyped-def]
        return METHODS["integrated_gradients"].explain(model, images, targets, settings, seeds)

    results = []
    for network in (torch.nn.Sequential, Narrow):
        model = small_convnet()
        model.network.__class__ = network
        path = tmp_path / f"{network.__name__}.npy"
        explain_rows(model, weights, plan, predictions, pictures, explain, "float32", 1, 0, path)
        again = predict(model, weights, plan, splits, pictures, STATES)
        pd.testing.assert_series_equal(again["prediction"], predictions["prediction"])
        results.append(np.load(path))
    assert compute.batch_size(SIDE, torch.device("cpu")) <= 4
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


def test_a_map_with_nan_stops_the_run_and_names_the_row(plan, predictions, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    def broken(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        return torch.full((len(images), SIDE, SIDE), torch.nan)

    with pytest.raises(UserError, match=r"row 0: the method gave a map with NaN or infinity"):
        run_chain(broken, plan, predictions, pictures, weights, tmp_path)


def test_a_method_may_explain_the_images_that_were_drawn_first(  # type: ignore[no-untyped-def]
    plan, predictions, pictures, weights, tmp_path
) -> None:
    method, settings = METHODS["grad_cam"], SMALL["grad_cam"]

    def explain(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        return method.explain(model, images, targets, settings, seeds)

    few, of_few = in_first(plan, predictions, 2)
    assert sorted(few["turn"].unique()) == [0, 1]
    assert len(few) == len(of_few) == len(plan) // 3
    all_of_them = [run_chain(explain, *in_first(plan, predictions, count), pictures, weights, tmp_path)
                   for count in (2, "all")]  # fmt: skip
    same = all_of_them[1][all_of_them[1]["row"].isin(few["row"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(all_of_them[0], same, rtol=1e-6)
    index = few[["row"]].iloc[::1]
    assert rows_explained(plan, index).equals(few)
    assert rows_explained(predictions, index)["row"].tolist() == few["row"].tolist()


def test_a_model_may_lack_checkpoints(plan, splits, pictures, weights) -> None:  # type: ignore[no-untyped-def]
    assert in_states(plan, STATES).equals(plan)
    fewer = in_states(plan, {60: "epoch_006"})
    assert set(fewer["progress"].dropna()) == {60}
    assert len(fewer) == len(plan) - PLAN.images
    predictions = predict(small_convnet(), weights, fewer, splits, pictures, {60: "epoch_006"})
    assert set(predictions["state"]) == {"trained", "random", "epoch_006"}
    known, _ = in_first(plan, predictions, "all")
    assert known.equals(fewer)
    # Rows that are missing otherwise are another matter.
    with pytest.raises(UserError, match="not the plan's"):
        in_first(plan, predictions[predictions["state"] != "random"].reset_index(drop=True), "all")


@pytest.mark.parametrize(("value", "storage"), [(-0.5, "uint8"), (1.5, "uint8"), (-1.5, "float16")])
def test_a_map_out_of_range_stops_the_run_and_names_the_row(  # type: ignore[no-untyped-def]
    value, storage, plan, predictions, pictures, weights, tmp_path
) -> None:
    def broken(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: list[int]) -> torch.Tensor:
        return torch.full((len(images), SIDE, SIDE), value)

    allowed = "0 to 1" if storage == "uint8" else "-1 to 1"
    with pytest.raises(
        UserError, match=rf"row 0: the method gave a map with {value}; allowed: {allowed} \({storage}\)"
    ):
        explain_rows(
            small_convnet(), weights, plan, predictions, pictures, broken, storage, 1, 0, tmp_path / "maps.npy"
        )


def test_predictions_of_another_plan_are_refused(plan, predictions, pictures, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="not the plan's"):
        run_chain(lambda *_: None, plan, predictions.iloc[1:], pictures, weights, tmp_path)
