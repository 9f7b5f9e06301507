"""Maps of every row: what a method may give, and what is said about each map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.core.batches import forget_memory
from pipeline.core.errors import UserError
from pipeline.core.randomness import stream_seed
from pipeline.core.tables import check
from pipeline.models.states import States
from pipeline.models.trained import save_state
from pipeline.saliency.explain import explain_rows
from pipeline.saliency.explanations import INDEX
from pipeline.saliency.map_file import Maps, digest, extremes
from tests.conftest import SIDE, small_convnet

ROWS = pd.DataFrame(
    {
        "row": [11, 5, 8],
        "turn": [0, 0, 1],
        "image": [1, 1, 2],
        "transform": ["identity", "flip_lr", "identity"],
        "magnitude": pd.array([None] * 3, "Float64"),
        "state": ["trained", "trained", "random"],
        "prediction": [3, 0, 2],
    }
)
PICTURES = {image: np.random.default_rng(image).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for image in (1, 2)}


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    forget_memory()
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def states(tmp_path: Path) -> States:
    for state in ("trained", "random"):
        save_state(small_convnet(), tmp_path / f"{state}.safetensors")
    return States(small_convnet(), tmp_path, SIDE)


def explained(states: States, make: Callable[..., torch.Tensor], path: Path, **options: Any) -> pd.DataFrame:
    chosen: dict[str, Any] = {"values": "unit", "storage": "float32", "at_once": 1, "seed": 7} | options
    return explain_rows(states, ROWS, PICTURES, make, maps_path=path, **chosen)


def filled(value: float, side: int = 5) -> Callable[..., torch.Tensor]:
    def make(model: Any, images: torch.Tensor, targets: torch.Tensor, seeds: Any) -> torch.Tensor:
        maps = torch.zeros(len(images), side, side)
        maps[:, 0, 1] = value
        return maps

    return make


def test_the_index_says_what_each_map_is(states: States, tmp_path: Path) -> None:
    given: dict[int, tuple[int, int]] = {}

    def make(model: Any, images: torch.Tensor, targets: torch.Tensor, seeds: Any) -> torch.Tensor:
        given.update({int(target): (len(images), seed) for target, seed in zip(targets, seeds, strict=True)})
        maps = torch.zeros(len(images), 4, 6)
        maps[:, 1, 2] = targets / 4
        return maps

    index = explained(states, make, tmp_path / "maps.npy")
    check(INDEX, index, "test")
    assert index.to_dict("list") == {
        "row": [11, 5, 8],
        "state": ["trained", "trained", "random"],
        "target": [3, 0, 2],
        "minimum": [0.0] * 3,
        "maximum": [0.75, 0.0, 0.5],
        "flat": [False, True, False],
        "digest": [digest(stored, *extremes(stored)) for stored in np.load(tmp_path / "maps.npy")],
    }
    maps = Maps(tmp_path / "maps.npy", index, "unit", SIDE)
    assert maps.shape == (3, 4, 6)
    assert [float(one[1, 2]) for one in maps] == [0.75, 0.0, 0.5]
    # All randomness of a row comes from the user's seed and its number.
    assert {target: seed for target, (_, seed) in given.items()} == {
        target: stream_seed(7, "explain", row) for row, target in zip([11, 5, 8], [3, 0, 2], strict=True)
    }


@pytest.mark.parametrize(
    ("values", "storage", "value", "message"),
    [
        ("unit", "uint8", -0.01, r"-0\.01; allowed: 0 to 1 \(unit\)"),
        ("unit", "uint8", 1.01, r"1\.01; allowed: 0 to 1 \(unit\)"),
        ("signed", "float16", -1.01, r"-1\.01; allowed: -1 to 1 \(signed\)"),
        ("signed", "float16", 1.5, r"1\.5; allowed: -1 to 1 \(signed\)"),
        ("ternary", "int8", 0.5, r"0\.5; allowed: -1, 0 and 1 \(ternary\)"),
        ("ternary", "int8", 2, r"2; allowed: -1, 0 and 1 \(ternary\)"),
    ],
)
def test_values_that_the_method_did_not_declare_are_one_line(
    values: str, storage: str, value: float, message: str, states: States, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^method, row 11: the method gave a map with {message}$"):
        explained(states, filled(value), tmp_path / "maps.npy", values=values, storage=storage)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_one_line(value: float, states: States, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^method, row 11: the method gave a map with NaN or infinity$"):
        explained(states, filled(value), tmp_path / "maps.npy")


@pytest.mark.parametrize(
    "make",
    [filled(0.5, SIDE + 1), lambda model, images, *_: images, lambda model, images, *_: torch.zeros(7, 3, 3)],
    ids=["too large", "with channels", "too many"],
)
def test_maps_of_another_shape_are_one_line(make: Any, states: States, tmp_path: Path) -> None:
    allowed = rf"allowed: \(\d+, height, width\), with at most {SIDE} pixels a side"
    with pytest.raises(UserError, match=rf"^method, row 11: found maps of shape \(.*\); {allowed}$"):
        explained(states, make, tmp_path / "maps.npy")


@pytest.mark.parametrize(("values", "value"), [("unit", 1 + 1e-7), ("signed", 1 + 1e-7), ("signed", -1 - 1e-7)])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_last_bit_beyond_is_no_error(values: str, value: float, storage: str, states: States, tmp_path: Path) -> None:
    index = explained(states, filled(value), tmp_path / "maps.npy", values=values, storage=storage)
    check(INDEX, index, "test")
    assert float(Maps(tmp_path / "maps.npy", index, values, SIDE)[0][0, 1]) == round(value)


def fails(*_: Any) -> torch.Tensor:
    raise AttributeError("'ResNet' object has no attribute\n'layer9'")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fails, r"the method raised AttributeError: 'ResNet' object has no attribute 'layer9' \(test_ex"),
        (lambda model, images, *_: images.mean(1).numpy(), "the method returned a ndarray; allowed: a torch.Tensor of"),
        (lambda *_: None, "the method returned a NoneType; allowed"),
        (lambda model, images, *_: images.mean(1) > 0, r"the method returned a tensor of torch\.bool; allowed"),
        (lambda model, images, *_: images.mean(1) * 1j, r"the method returned a tensor of torch\.complex64"),
    ],
)
def test_what_a_method_does_wrong_is_one_line(make: Any, message: str, states: States, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^method new on cell, row 11: {message}") as caught:
        explained(states, make, tmp_path / "maps.npy", name="method new on cell")
    assert "\n" not in str(caught.value)
