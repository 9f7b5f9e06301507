"""What the work runs on: a device and threads.

These change how long a result takes, and what it is only by rounding (which guided IG amplifies), so they are
environment variables and no parameters: a laptop and a cluster share one params.yaml and one cache.

    COSE_DEVICE   cpu, cuda, cuda:1     (default: cuda where there is one)
    COSE_THREADS  threads on the CPU    (default: the cores this process may use)
    COSE_BATCH    images per evaluation of a model (default: by image size and device; halved when memory runs out)

Explaining and predicting share out whole batches to threads that compute alone. On small networks that is
faster than threads that meet after every layer, it leaves a neighbour's cores alone, and the results do not depend on
the number of threads. Training has one batch at a time and shares out each layer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.core.errors import UserError

if TYPE_CHECKING:
    import torch

SPINS = "2000"
"""A compromise between a process alone and two on the same cores; docs/benchmarks.md has the measurements."""

MOST_THREADS = 1024
GPU_THREADS = 4
"""While one batch is computed on a GPU, the other threads prepare theirs."""


def positive(variable: str, most: int) -> int | None:
    """Return the whole number in an environment variable; None if it is not set.

    Args:
        variable: its name.
        most: the greatest number allowed.

    Raises:
        UserError: it is not a whole number from 1 to that.
    """
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10) or not 1 <= int(text) <= most:
        raise UserError(
            f"environment variable {variable}", f"found {text[:40]!r}", expected=f"a whole number from 1 to {most}"
        )
    return int(text)


def prepare_threads() -> None:
    """Let threads spin only briefly while they wait; call it before torch and numpy are imported.

    OpenMP's threads spin for milliseconds by default. With two processes on two cores they take the cores from each
    other, and a small network becomes tens of times slower. Threads that sleep at once avoid that, but waking them
    for every small layer halves the speed of a process that has the machine to itself.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's; its matrices here are small


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def threads() -> int:
    """Return how many threads may compute on the CPU."""
    return positive("COSE_THREADS", MOST_THREADS) or cores()


def device() -> torch.device:
    """Return the device to compute on and set the number of threads.

    Raises:
        UserError: ``COSE_DEVICE`` names a device that this machine does not have, or ``COSE_THREADS`` is not a
            positive number.
    """
    import torch

    torch.set_num_threads(threads())
    # Ten bits of mantissa are too few for gradients that pixels are ranked by.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    name = os.environ.get("COSE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        # Sums and paths are kept in float64, which not every device has.
        torch.ones(1, dtype=torch.float64, device=chosen).sum().item()
    except Exception as error:  # whatever the back end raises, if there is one
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            "environment variable COSE_DEVICE", f"found {name[:40]!r}", fix=f"not usable here ({reason})"
        ) from None
    return chosen


def workers(device: torch.device) -> int:
    """Return how many threads share out the batches, and let torch compute each batch in its thread alone."""
    import torch

    torch.set_num_threads(1)
    return threads() if device.type == "cpu" else min(GPU_THREADS, threads())
