"""What must be consistent between a recipe, the plan's checkpoints and the user's own weights."""

from __future__ import annotations

import math
from pathlib import Path

from pipeline.core import params
from pipeline.core.errors import UserError, unknown_name
from pipeline.core.files import sha256
from pipeline.models.recipe import FileWeights
from pipeline.models.state_names import TRAINED, checkpoint_epochs, state_name


def check_checkpoints(percents: tuple[int, ...], epochs: int, key: str) -> None:
    """Raise a `UserError` where a checkpoint is not the end of an epoch, so that they would be unevenly spaced."""
    step = math.lcm(*(100 // math.gcd(100, percent) for percent in percents))
    if epochs % step:
        raise UserError(
            params.at(key),
            f"found {epochs}",
            expected=f"multiples of {step}, so that each of plan.checkpoints {list(percents)} is the end of an epoch",
        )


def check_own(states: dict[str, FileWeights], percents: tuple[int, ...], epochs: int, where: str) -> None:
    """Raise a `UserError` for the user's own weights that cannot stand in for a training.

    Args:
        states: the files by state.
        percents: of the training, after which checkpoints are taken.
        epochs: of the training that they come from.
        where: their key in params.yaml.
    """
    if TRAINED not in states:
        raise UserError(where, f"found no {TRAINED!r}", fix="it is needed, others need not be there")
    known = [TRAINED, *map(state_name, checkpoint_epochs(percents, epochs).values())]
    for state, weights in states.items():
        if state not in known:
            raise unknown_name(where, "state of this training", state, known)
        if weights.sha256 is None:
            file = Path(weights.file)
            now = f" (now {sha256(file)})" if file.is_file() else ""
            raise UserError(
                f"{where}.{state}.sha256",
                "found null",
                expected=f"the checksum, by which a change of the file is noticed{now}",
            )
