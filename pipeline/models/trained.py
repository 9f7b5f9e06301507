"""The weights of a model on disk: one file per state, and what is said about them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.core.computed_by import ComputedBy
from pipeline.core.documents import read_document
from pipeline.core.errors import UserError
from pipeline.core.files import DAMAGED, DATA, atomic_write, check_sha256, missing, sha256
from pipeline.core.names import checked_cell
from pipeline.core.params import Settings, Sha256
from pipeline.models.classifier import Classifier
from pipeline.models.state_names import RANDOM, TRAINED

BACKBONE = "backbone"
"""Name of the file with what states share: a frozen backbone, or the whole of a network that is not trained."""
RowKind = Literal["checkpoint", "layers"]
"""Kinds of rows that a model may have no state for."""
STATES = "states.json"
"""File that says which checkpoints there are, and where the weights are from."""


def model_folder(cell: str) -> Path:
    """Return the folder with the weights of every state of a cell's model."""
    return DATA / "models" / checked_cell(cell)


def state_file(folder: Path, state: str) -> Path:
    """Return the file of a state's weights in a model's folder."""
    return folder / f"{state}.safetensors"


def save_state(model: Classifier, path: Path, names: Collection[str] | None = None) -> None:
    """Write weights of a model as safetensors, whole or not at all; all of them, or those of some names."""
    state = model.network.state_dict()
    chosen = {
        name: tensor.detach().cpu().contiguous() for name, tensor in state.items() if names is None or name in names
    }
    with atomic_write(path) as draft:
        try:
            save_file(chosen, draft)
        except SafetensorError as error:  # which is what a full disk raises there
            raise UserError(path, f"could not be written ({error})") from None


def load_state(model: Classifier, path: Path, checksums: Mapping[str, str] | None = None) -> None:
    """Read weights into a model.

    What the file lacks is taken from the file `BACKBONE` beside it, where there is one.

    Args:
        model: the model.
        path: of the state's file.
        checksums: SHA-256 of the files beside it and of its own, by the name of the state; None to trust them.

    Raises:
        UserError: the file is missing, is not a safetensors file or not the one that was written, or does not fit the
            model; the message names the first weight that does not fit.
    """
    own = model.network.state_dict()
    state = read_state(path, checksums)
    shared = state_file(path.parent, BACKBONE)
    if not own.keys() <= state.keys() and shared.exists():
        state = read_state(shared, checksums) | state
    for name in [*own, *state]:
        if name not in state or name not in own:
            where = "model" if name in own else "checkpoint"
            raise UserError(path, f"the checkpoint does not fit the model: {name} is only in the {where}")
        if own[name].shape != state[name].shape:
            found, allowed = tuple(state[name].shape), tuple(own[name].shape)
            raise UserError(path, f"the checkpoint does not fit the model: {name} has shape {found}", expected=allowed)
    model.network.load_state_dict(state)
    model.cache.clear()


def read_state(path: Path, checksums: Mapping[str, str] | None = None) -> dict[str, torch.Tensor]:
    """Return what a safetensors file holds; a missing, unreadable or other one (see `load_state`) is a `UserError`."""
    if checksums is not None:
        if path.stem not in checksums:
            raise UserError(f"{path.parent / STATES}: sha256", f"found no state {path.stem!r}", fix=DAMAGED)
        check_sha256(path, checksums[path.stem])
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except FileNotFoundError:
        raise missing(path) from None
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(path, f"not a readable safetensors file ({reason})", fix=DAMAGED) from None
    return state


Number = Annotated[str, Field(pattern=r"^[1-9]\d?$")]


class StatesFile(Settings):
    """What `STATES` holds.

    Attributes:
        checkpoints: name of the state at each percent of the training.
        layers: name of the state in which so many of the last stages are randomised; empty for a trained model.
        weights_from: where the weights of a state are from; None for fresh ones.
        computed_by: what trained them; None if they were not trained here.
        sha256: checksum of the file of every state, and of `BACKBONE` where there is one.
    """

    checkpoints: dict[Number, Annotated[str, Field(pattern=r"^epoch_\d{3,}$")]]
    layers: dict[Number, Annotated[str, Field(pattern=r"^top_[1-9]\d?$")]] = Field(default_factory=dict)
    weights_from: dict[str, str | None]
    computed_by: ComputedBy | None
    sha256: dict[str, Sha256]

    @model_validator(mode="after")
    def _states_are_in_order(self) -> StatesFile:
        epochs = [int(state.removeprefix("epoch_")) for _, state in sorted(self.checkpoints.items(), key=_by_number)]
        if any(after <= before for before, after in pairwise(epochs)):
            raise ValueError("checkpoints in the order of their epochs")
        if any(state != f"top_{number}" for number, state in self.layers.items()):
            raise ValueError("states named for their number of stages")
        absent = {TRAINED, RANDOM, *self.checkpoints.values(), *self.layers.values()} - self.sha256.keys()
        if absent:
            raise ValueError(f"a sha256 of {min(absent)}")
        return self


def _by_number(item: tuple[str, str]) -> int:
    return int(item[0])


def state_checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files in a model's folder, by the name of their state."""
    return {file.stem: sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def read_states_file(folder: Path) -> StatesFile:
    """Return what is said about a model's states; a file that is missing or does not fit is a `UserError`."""
    return read_document(folder / STATES, StatesFile)


def read_further_states(folder: Path) -> dict[RowKind, dict[int, str]]:
    """Return the states that a model has beside ``trained`` and ``random``.

    Returns:
        For rows of kind ``checkpoint``, the name of the state at each percent of the training; for rows of kind
        ``layers``, that of the state in which so many stages are randomised.

    Raises:
        UserError: the file is missing or does not fit.
    """
    said = read_states_file(folder)
    named: dict[RowKind, dict[str, str]] = {"checkpoint": said.checkpoints, "layers": said.layers}
    return {kind: {int(number): state for number, state in states.items()} for kind, states in named.items()}
