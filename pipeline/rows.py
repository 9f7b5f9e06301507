"""Rows as work to share out: what each row's input is, and which state of the model it needs."""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.errors import UserError
from pipeline.fusion import fold, foldable, lay_out
from pipeline.images import Pixels
from pipeline.models import RANDOM, TRAINED, Classifier, load_state
from pipeline.transforms import apply_each


@dataclass(frozen=True)
class Part:
    """Some rows that need the same state of a model.

    Attributes:
        state: its name.
        positions: int64 (B,), positions of the rows in the plan.
    """

    state: str
    positions: npt.NDArray[np.int64]


def in_states(plan: pd.DataFrame, checkpoints: Mapping[int, str]) -> pd.DataFrame:
    """Return the rows of a plan without checkpoints that a model does not have; see `states`."""
    had = plan["progress"].isin(list(checkpoints))
    return plan[(plan["kind"] != "checkpoint") | had].reset_index(drop=True)


def in_first(
    plan: pd.DataFrame, predictions: pd.DataFrame, images: int | str
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Return the rows of the images that were drawn first, as far as there are predictions.

    Args:
        plan: the table ``plan``.
        predictions: the table ``predictions`` of its rows, or of some.
        images: how many images; ``all`` for all.

    Returns:
        Both tables, of the same rows in the same order.

    Raises:
        UserError: the predictions are not those of the plan.
    """
    had = plan["row"].isin(predictions["row"])
    known = plan[had].reset_index(drop=True)
    if not np.array_equal(known["row"], predictions["row"]) or (plan["kind"][~had] != "checkpoint").any():
        raise UserError(f"predictions: found {len(predictions)} rows that are not the plan's {len(plan)}; "
                        "`dvc repro` makes them again")  # fmt: skip
    chosen = np.ones(len(known), bool) if images == "all" else (known["turn"] < images).to_numpy()
    return known[chosen].reset_index(drop=True), predictions[chosen].reset_index(drop=True)


def states(plan: pd.DataFrame, checkpoints: Mapping[int, str]) -> list[str]:
    """Return the name of the model state of every row, given that of the checkpoint at each percent of the training."""
    return [
        checkpoints[int(row.progress)] if row.kind == "checkpoint" else RANDOM if row.kind == "random" else TRAINED
        for row in plan.itertuples()
    ]


def parts(row_states: list[str], size: int) -> Iterator[Part]:
    """Cut the rows of each state into parts of nearly the same number of rows, at most ``size``.

    The parts depend on nothing else, so neither does what is computed from them.
    """
    names = np.array(row_states)
    for state in dict.fromkeys(row_states):
        of_state = np.flatnonzero(names == state)
        for positions in np.array_split(of_state, -(-len(of_state) // size)):
            yield Part(state, positions)


class Inputs:
    """The perturbed pictures of a plan's rows, made when they are asked for."""

    def __init__(self, plan: pd.DataFrame, pictures: Mapping[int, Pixels]) -> None:
        """Describe them.

        Args:
            plan: the table ``plan``.
            pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        """
        self._images = plan["image"].to_numpy()
        self._transforms = plan["transform"].to_numpy(dtype=object)
        self._magnitudes = plan["magnitude"].to_numpy(dtype=np.float64, na_value=np.nan)
        self._pictures = pictures
        self.side: int = next(iter(pictures.values())).shape[0]

    def pixels(self, positions: npt.NDArray[np.int64]) -> Pixels:
        """Return the inputs of some rows, uint8 (B, H, W, 3)."""
        originals = np.stack([self._pictures[image] for image in self._images[positions].tolist()])
        return apply_each(originals, self._transforms[positions], self._magnitudes[positions])


class States:
    """The states of a model, for threads that need different ones at a time.

    A state is read from disk once, made ready for inference, and kept while a thread uses it. Every thread has a model
    of its own, whose hooks are its own, on weights that all threads share.
    """

    def __init__(self, model: Classifier, weights: Path, image_size: int) -> None:
        """Prepare a model.

        Args:
            model: on its device, in evaluation mode; its own weights do not matter.
            weights: folder with a safetensors file a state.
            image_size: side of its input in pixels.
        """
        self._model, self._weights = model, weights
        self._pairs = foldable(model, image_size)
        self._lock = threading.Lock()
        self._loaded: weakref.WeakValueDictionary[str, Classifier] = weakref.WeakValueDictionary()
        self._own = threading.local()

    def model(self, state: str) -> Classifier:
        """Return this thread's model in a state; it is good until the thread asks for the next one."""
        if getattr(self._own, "state", None) != state:
            with self._lock:
                shared = self._loaded.get(state)
                if shared is None:
                    shared = self._loaded[state] = self._load(state)
            # Holding the shared one keeps it loaded for the other threads.
            self._own.state, self._own.shared, self._own.model = state, shared, _on_same_weights(shared)
        model: Classifier = self._own.model
        return model

    def _load(self, state: str) -> Classifier:
        model = copy.deepcopy(self._model)
        load_state(model, self._weights / f"{state}.safetensors")
        model.requires_grad_(False)
        fold(model, self._pairs)
        lay_out(model)
        return model


def _on_same_weights(model: Classifier) -> Classifier:
    """Return a copy of a model's modules around its own tensors."""
    shared = [*model.parameters(), *model.buffers(), model.remembered]
    return copy.deepcopy(model, {id(one): one for one in shared})
