"""Going through the rows of a cell in batches: each row's input, under the state of the model that it names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.core.batches import batch_size, with_smaller_batches
from pipeline.core.device import workers
from pipeline.core.parallel import in_order
from pipeline.data.decode import Pixels
from pipeline.data.inputs import Inputs
from pipeline.models.classifier import Classifier
from pipeline.models.state_names import TRAINED
from pipeline.models.states import States

Positions = npt.NDArray[np.int64]
Evaluate = Callable[[Classifier, torch.Tensor, Positions], torch.Tensor]


FIRST_BLOCK = 2
"""Images in the first block of a state that every image has one row of; each block doubles what came before. It is
small because expensive methods explain two or three images, and a block is computed in full whatever it lacks."""


@dataclass(frozen=True)
class Part:
    """Some rows that need the same state of a model, in a batch of a size that does not depend on other rows.

    Attributes:
        state: its name.
        positions: int64 (B,), positions of the rows in their table.
        size: rows in the batch; where there are fewer, the last one is computed again.
    """

    state: str
    positions: Positions
    size: int

    @property
    def filled(self) -> Positions:
        """The positions, the last one repeated until the batch is full."""
        return np.pad(self.positions, (0, self.size - len(self.positions)), mode="edge")


def parts(rows: pd.DataFrame, size: int) -> Iterator[Part]:
    """Cut rows into batches, the rows of each state apart.

    A network's last bits depend on the size of the batch, and on nothing else in it. So that more images or
    perturbations leave the maps of the rows that were there before as they are, a row's batch has a size that follows
    from its own image alone: rows of the trained model come in full batches, and those of the other states, of which an
    image has one each, in blocks of images by their turn (0 and 1, 2 and 3, 4 to 7, 8 to 15, ...).

    Args:
        rows: a table with the columns ``turn`` and ``state``.
        size: of a full batch.
    """
    states, turns = rows["state"].to_numpy(dtype=object), rows["turn"].to_numpy()
    for state in dict.fromkeys(states.tolist()):
        of_state = np.flatnonzero(states == state)
        # Turns 0 and 1 have no bit beyond the first: block 0; 2 and 3 have two bits: block 1; 4 to 7 three; and so on.
        blocks = np.zeros(len(of_state), np.int64)
        if state != TRAINED:
            blocks = np.frexp(np.maximum(turns[of_state], FIRST_BLOCK - 1))[1] - (FIRST_BLOCK - 1).bit_length()
        for block in np.unique(blocks).tolist():
            members = of_state[blocks == block]
            images = size if state == TRAINED else FIRST_BLOCK << max(0, block - 1)
            full = min(size, images)
            for start in range(0, len(members), full):
                yield Part(state, members[start : start + full], full)


def sweep(
    states: States, rows: pd.DataFrame, pictures: Mapping[int, Pixels], evaluate: Evaluate, *, at_once: int, what: str
) -> Generator[tuple[Positions, npt.NDArray[Any]]]:
    """Evaluate every row, several batches at a time, and yield the results in order.

    Each batch is computed by one thread from beginning to end, and again in halves where memory runs out.

    Args:
        states: of the model.
        rows: a table with the columns ``image``, ``turn``, ``transform``, ``magnitude`` and ``state``.
        pictures: the unperturbed images, uint8 (H, W, 3), by their number.
        evaluate: ``(model, images[B,3,H,W], positions[B]) -> results[B,...]``: called in several threads, each with a
            model of its own in the state of its rows; the images are normalised and on the model's device.
        at_once: evaluations of the model that a row makes at once: so many fewer rows go into a batch.
        what: is done, for the progress bar.

    Yields:
        Positions of some rows, int64 (B,), and what ``evaluate`` returned for them, on the CPU.

    Raises:
        UserError: memory ran out for a single row.
    """
    inputs = Inputs(rows, pictures)
    device = states.device
    size = max(1, batch_size(inputs.side, device) // at_once)

    def work(part: Part) -> tuple[Positions, npt.NDArray[Any]]:
        filled = part.filled
        pixels = inputs.pixels(filled)

        def results() -> torch.Tensor:
            model = states.model(part.state)
            return evaluate(model, model.normalize(pixels), filled).cpu()

        return part.positions, with_smaller_batches(results, inputs.side, device).numpy()[: len(part.positions)]

    with (
        tqdm(total=len(rows), desc=what, unit="row", disable=None) as progress,
        closing(in_order(work, parts(rows, size), workers(device))) as results,
    ):
        for positions, result in results:
            yield positions, result
            progress.update(len(positions))
