"""Random generators that depend on names, never on what ran before.

Every random draw of the project comes from a generator made here from the user's seed and the name of what is drawn
("plan", "digits", image 17, ...). Nothing reads or writes the global state of numpy or torch, so a result does not
depend on batch size, on order, or on which other cells were computed in the same process.
"""

from __future__ import annotations

import hashlib

import numpy as np

Name = str | int
"""A part of the name of a stream."""


def stream_seed(seed: int, *names: Name) -> int:
    """Return the 63-bit seed of the stream called ``names``.

    Args:
        seed: the user's seed, any integer.
        names: what is drawn, from the general to the particular; strings and integers are told apart.

    Returns:
        An integer in [0, 2**63), the first eight bytes of a SHA-256 digest: streams with different names are
        unrelated, and the value is the same on every machine.

    >>> stream_seed(0, "plan", "digits")
    8199147187376769025
    """
    text = repr((seed, *names)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(seed: int, *names: Name) -> np.random.Generator:
    """Return numpy's generator (PCG64) for the stream called ``names``; see `stream_seed`."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *names)))
