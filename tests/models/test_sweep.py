"""Going through rows in batches: every row once, in a batch that does not depend on other rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.core.batches import batch_size, forget_memory
from pipeline.data.perturb import perturb
from pipeline.models.classifier import Classifier
from pipeline.models.prediction import predict, rows_of
from pipeline.models.states import States
from pipeline.models.sweep import parts, sweep
from pipeline.models.trained import load_state, save_state
from tests.conftest import SIDE, small_convnet


def rows(images: int, transforms: int = 2, states: tuple[str, ...] = ("random", "epoch_001")) -> pd.DataFrame:
    """Return the rows of some images, each with a few of the trained state and one of every other."""
    names = ["identity", "rotate", "flip_lr", "blur"][: transforms + 1]
    lines = [(turn, name, "trained") for turn in range(images) for name in names]
    lines += [(turn, "identity", state) for state in states for turn in range(images)]
    frame = pd.DataFrame(lines, columns=["turn", "transform", "state"])
    magnitudes = [30.0 if name == "rotate" else None for name in frame["transform"]]
    return frame.assign(image=frame["turn"] + 100, row=range(len(frame)), magnitude=pd.array(magnitudes, "Float64"))


@pytest.mark.parametrize("images", [1, 7, 8, 9, 40, 100])
@pytest.mark.parametrize("size", [1, 4, 5, 64])
def test_every_row_comes_once_in_full_batches_of_its_state(images: int, size: int) -> None:
    table = rows(images)
    found = list(parts(table, size))
    assert Counter(np.concatenate([part.positions for part in found]).tolist()) == Counter(range(len(table)))
    for part in found:
        assert set(table["state"].iloc[part.positions]) == {part.state}
        assert 1 <= len(part.positions) <= part.size == len(part.filled) <= size
        assert part.filled[: len(part.positions)].tolist() == part.positions.tolist()
        assert set(part.filled) == set(part.positions)
    assert [part.state for part in found] == sorted(
        (part.state for part in found), key=["trained", "random", "epoch_001"].index
    )


@pytest.mark.parametrize(("few", "many"), [(1, 2), (8, 9), (16, 40), (30, 200)])
def test_more_images_leave_the_size_of_a_rows_batch(few: int, many: int) -> None:
    def sizes(images: int) -> dict[tuple[Any, ...], int]:
        table = rows(images)
        keys = list(table[["turn", "transform", "state"]].itertuples(index=False, name=None))
        return {keys[position]: part.size for part in parts(table, 64) for position in part.positions}

    before, after = sizes(few), sizes(many)
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("images", [1, 2, 3, 4, 5, 9, 17, 40])
def test_filling_the_blocks_costs_at_most_as_much_again(images: int) -> None:
    computed: Counter[str] = Counter()
    for part in parts(rows(images), 8):
        computed[part.state] += part.size
    assert computed["random"] == computed["epoch_001"] <= max(2, 2 * (images - 1))
    assert computed["trained"] < 3 * images + 8
    if images in (2, 4):
        assert computed["random"] == images


@pytest.fixture(autouse=True)
def all_memory() -> Any:
    forget_memory()
    yield
    forget_memory()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Two states of one model, as far apart as fresh networks are."""
    model = small_convnet()
    save_state(model, tmp_path / "trained.safetensors")
    for tensor in model.network.state_dict().values():
        tensor.mul_(-0.5)
    for state in ("random", "epoch_001"):
        save_state(model, tmp_path / f"{state}.safetensors")
    return tmp_path


def pictures(images: int) -> dict[int, np.ndarray]:
    drawn = np.random.default_rng(2).integers(0, 256, (images, SIDE, SIDE, 3), dtype=np.uint8)
    return {100 + number: one for number, one in enumerate(drawn)}


def expected_scores(table: pd.DataFrame, weights: Path) -> np.ndarray:
    """Return the scores of every row, one after the other, by the plainest way."""
    model, known, scores = small_convnet(), pictures(20), []
    for row in table.itertuples():
        load_state(model, weights / f"{row.state}.safetensors")
        magnitude = float("nan") if pd.isna(row.magnitude) else row.magnitude
        pixels = perturb(known[row.image], row.transform, magnitude)
        scores.append(model(model.normalize(pixels[None]))[0].detach().numpy())
    return np.stack(scores)


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("memory", [99, 2])
def test_each_row_is_evaluated_in_its_state_with_its_input(
    threads: str, memory: int, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSE_BATCH", "8")
    monkeypatch.setenv("COSE_THREADS", threads)
    table = rows(20)
    before = torch.get_num_threads()

    def evaluate(model: Classifier, images: torch.Tensor, positions: np.ndarray) -> torch.Tensor:
        assert len(images) == len(positions) <= 4
        chunks = images.split(batch_size(SIDE, images.device))
        if len(chunks[0]) > memory:
            raise torch.OutOfMemoryError("out of memory")
        with torch.inference_mode():
            return torch.cat([model(chunk) for chunk in chunks])

    found = np.zeros((len(table), 4), np.float32)
    seen: list[int] = []
    try:
        states = States(small_convnet(), weights, SIDE)
        for positions, result in sweep(states, table, pictures(20), evaluate, at_once=2, what="test"):
            found[positions] = result
            seen += positions.tolist()
    finally:
        torch.set_num_threads(before)
    assert batch_size(SIDE, torch.device("cpu")) == min(8, memory)
    assert sorted(seen) == list(range(len(table)))
    np.testing.assert_allclose(found, expected_scores(table, weights), atol=1e-5)


def test_predictions_are_the_greatest_scores(weights: Path) -> None:
    table = rows(5)
    before = torch.get_num_threads()
    try:
        found = predict(States(small_convnet(), weights, SIDE), table, pictures(20))
    finally:
        torch.set_num_threads(before)
    scores = torch.from_numpy(expected_scores(table, weights)).softmax(dim=1).numpy()
    assert found["prediction"].tolist() == scores.argmax(axis=1).tolist()
    np.testing.assert_allclose(found["probability"], scores.max(axis=1), atol=1e-5)
    assert found.drop(columns=["prediction", "probability"]).equals(table)
    assert len(set(found["prediction"])) > 1


def test_rows_have_the_state_that_they_need_and_only_states_that_are_there() -> None:
    plan = pd.DataFrame(
        {
            "row": range(7),
            "image": [7, 7, 8, 8, 8, 8, 7],
            "kind": ["reference", "transform", "random", "checkpoint", "checkpoint", "layers", "layers"],
            "progress": pd.array([None, None, None, 10, 50, None, None], "Int64"),
            "layers": pd.array([None, None, None, None, None, 1, 2], "Int64"),
        }
    )
    labels = pd.Series({7: 1, 8: 3})
    found = rows_of(plan, labels, {"checkpoint": {50: "epoch_005"}, "layers": {}})
    assert found["row"].tolist() == [0, 1, 2, 4]
    assert found["state"].tolist() == ["trained", "trained", "random", "epoch_005"]
    assert found["label"].tolist() == [1, 1, 3, 3]
    assert not {"progress", "layers"} & set(found)
    as_it_is = rows_of(plan, labels, {"checkpoint": {}, "layers": {1: "top_1", 2: "top_2"}})
    assert as_it_is["state"].tolist() == ["trained", "trained", "random", "top_1", "top_2"]
