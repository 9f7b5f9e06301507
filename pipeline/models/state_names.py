"""What the states of a model are called."""

from __future__ import annotations

TRAINED, RANDOM = "trained", "random"
STATE_PATTERN = r"trained|random|epoch_\d{3,}|top_[1-9]\d?"
"""What a state may be called."""


def checkpoint_epochs(percents: tuple[int, ...], epochs: int) -> dict[int, int]:
    """Return the epoch after which each checkpoint is taken, by percent of the training.

    >>> checkpoint_epochs((10, 50), 20)
    {10: 2, 50: 10}
    """
    return {percent: epochs * percent // 100 for percent in percents}


def state_name(epoch: int) -> str:
    """Return the name of the state after an epoch.

    >>> state_name(5)
    'epoch_005'
    """
    return f"epoch_{epoch:03d}"


def top_state(stages: int) -> str:
    """Return the name of the state whose last stages, so many of them, are randomised."""
    return f"top_{stages}"
