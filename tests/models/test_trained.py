"""Weights on disk: in and out, only what was trained, and one line for what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.core.errors import UserError
from pipeline.models.state_names import checkpoint_epochs, state_name
from pipeline.models.trained import STATES, load_state, read_further_states, save_state
from tests.conftest import SIDE
from tests.models.networks import small_resnet


def test_weights_come_back(tmp_path: Path) -> None:
    model, other = small_resnet(seed=0), small_resnet(seed=1)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(model(images), other(images))
    save_state(model, tmp_path / "a.safetensors")
    load_state(other, tmp_path / "a.safetensors")
    torch.testing.assert_close(model(images), other(images), atol=0, rtol=0)


def test_weights_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = small_resnet()
    with pytest.raises(UserError, match="there is no such file; `dvc repro` makes it"):
        load_state(model, path)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_state(model, path)
    save_state(small_resnet(5), path)
    with pytest.raises(UserError, match=r"fc\.weight has shape \(5, 16\); allowed: \(4, 16\)"):
        load_state(model, path)
    state = load_file(path)
    del state["conv1.weight"]
    save_file(state, path)
    with pytest.raises(UserError, match=r"conv1\.weight is only in the model"):
        load_state(model, path)
    save_state(model, path)
    save_file(load_file(path) | {"extra": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="extra is only in the checkpoint"):
        load_state(model, path)


def test_only_the_trained_part_is_stored(tmp_path: Path) -> None:
    trained, read = (small_resnet(2, SIDE, seed, (12,)) for seed in (1, 2))
    classifier = trained.classifier_weights()
    save_state(trained, tmp_path / "backbone.safetensors", set(trained.network.state_dict()) - classifier)
    save_state(trained, tmp_path / "trained.safetensors", classifier)
    assert set(load_file(tmp_path / "trained.safetensors")) == classifier
    load_state(read, tmp_path / "trained.safetensors")
    images = torch.randn(2, 3, SIDE, SIDE)
    torch.testing.assert_close(read(images), trained(images), atol=0, rtol=0)
    other = small_resnet(2, SIDE, 3, (12,))  # a state with all of its weights has no use for the backbone beside it
    save_state(other, tmp_path / "random.safetensors")
    load_state(read, tmp_path / "random.safetensors")
    torch.testing.assert_close(read(images), other(images), atol=0, rtol=0)
    (tmp_path / "backbone.safetensors").unlink()
    with pytest.raises(UserError, match=r"trained\.safetensors: .* conv1\.weight is only in the model"):
        load_state(read, tmp_path / "trained.safetensors")


def test_checkpoints_are_spaced_over_the_training() -> None:
    assert checkpoint_epochs(tuple(range(10, 100, 10)), 20) == {p: p // 5 for p in range(10, 100, 10)}
    assert checkpoint_epochs((1, 99), 100) == {1: 1, 99: 99}
    assert state_name(7) == "epoch_007"
    assert state_name(1234) == "epoch_1234"


def states_json(**changes: Any) -> dict[str, Any]:
    """Return what `STATES` says of a model, with a checksum of every state that it names."""
    said = {"checkpoints": {}, "weights_from": {"trained": None}, "computed_by": None} | changes
    named = ["trained", "random", *said["checkpoints"].values(), *said.get("layers", {}).values()]
    return {"sha256": dict.fromkeys(named, "0" * 64)} | said


def test_states_come_back_by_what_they_are_for(tmp_path: Path) -> None:
    said = states_json(checkpoints={"5": "epoch_001", "10": "epoch_1002"})
    (tmp_path / STATES).write_text(json.dumps(said))
    assert read_further_states(tmp_path) == {"checkpoint": {5: "epoch_001", 10: "epoch_1002"}, "layers": {}}
    said = states_json(layers={"1": "top_1", "12": "top_12"})
    (tmp_path / STATES).write_text(json.dumps(said))
    assert read_further_states(tmp_path) == {"checkpoint": {}, "layers": {1: "top_1", 12: "top_12"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoints": {"5": "../epoch_001"}}, r"checkpoints\.5: found '\.\./epoch_001'; allowed: text that matches"),
        ({"checkpoints": {"100": "epoch_001"}}, r"checkpoints\.100.*: found '100'; allowed: text that matches"),
        ({"layers": {"1": "../top_1"}}, r"layers\.1: found '\.\./top_1'; allowed: text that matches"),
        ({"weights_from": 3}, "weights_from: found 3; allowed: a mapping"),
        ({"computed_by": {}}, "computed_by.device: missing"),
        ({"checkpoints": {"10": "trained"}}, r"checkpoints\.10: found 'trained'; allowed: text that matches"),
        (
            {"checkpoints": {"10": "epoch_002", "20": "epoch_001"}},
            "found .*; allowed: checkpoints in the order",
        ),
        (
            {"checkpoints": {"10": "epoch_002", "20": "epoch_002"}},
            "found .*; allowed: checkpoints in the order",
        ),
        ({"layers": {"1": "top_2"}}, "found .*; allowed: states named for their number of stag"),
        ({"sha256": {"trained": "0" * 64}}, "found .*; allowed: a sha256 of random"),
        ({"sha256": {"trained": "0" * 63}}, r"sha256\.trained: found '0{63}'; allowed: text that matches"),
        ({"more": 3}, "more: found 3; allowed: no further keys"),
    ],
)
def test_states_that_do_not_fit_are_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / STATES).write_text(json.dumps(states_json(**change)))
    with pytest.raises(UserError, match=rf"states\.json: {message}.*; it is damaged") as caught:
        read_further_states(tmp_path)
    assert "\n" not in str(caught.value)
