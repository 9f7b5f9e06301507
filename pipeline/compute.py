"""What the work runs on: device, threads, batch size.

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
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

SPINS = "2000"
"""Measured on two cores with a small transformer, milliseconds per gradient alone and with a twin beside it: sleeping
at once 1.6 and 1.6, 2,000 spins 0.84 and 2.4, the default of 300,000 spins 0.81 and 39."""

CPU_PIXELS, CPU_IMAGES = 2**17, 4
"""Pixels, and at least images, per evaluation: on a core, small networks are fastest near the cache, and large ones
gain nothing beyond a few images."""
GPU_PIXELS, GPU_THREADS = 2**22, 4
"""On a GPU, batches fill the card; while one thread's is computed there, the others prepare theirs."""


def _positive(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"environment variable {variable}: found {text!r}; allowed: a whole number from 1")
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


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def threads() -> int:
    """Return how many threads may compute on the CPU."""
    return _positive("COSE_THREADS") or _cores()


def device() -> torch.device:
    """Return the device to compute on and set the number of threads.

    Raises:
        UserError: ``COSE_DEVICE`` names no device that this machine has, or ``COSE_THREADS`` is no positive number.
    """
    import torch

    torch.set_num_threads(threads())
    # Ten bits of mantissa are no rounding of a gradient that pixels are ranked by.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    name = os.environ.get("COSE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        # Sums and paths are kept in float64, which not every device has.
        torch.ones(1, dtype=torch.float64, device=chosen).sum().item()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"environment variable COSE_DEVICE: found {name!r}; not usable here ({reason})") from None
    return chosen


def workers(on: torch.device) -> int:
    """Return how many threads share out the batches, and let torch compute each batch in its thread alone."""
    import torch

    torch.set_num_threads(1)
    return threads() if on.type == "cpu" else min(GPU_THREADS, threads())


_most: int | None = None
"""What memory was found to allow, once it ran out."""


def batch_size(image_size: int, on: torch.device) -> int:
    """Return how many images to evaluate at once."""
    usual = max(CPU_IMAGES, CPU_PIXELS // image_size**2) if on.type == "cpu" else max(1, GPU_PIXELS // image_size**2)
    chosen = _positive("COSE_BATCH") or usual
    return min(chosen, _most or chosen)


def even(count: int, size: int) -> list[int]:
    """Return the lengths of as few chunks as possible, none longer than ``size``, that differ by at most one.

    A last chunk of a few images would cost nearly as much as a full one.
    """
    chunks = max(1, -(-count // size))
    return [count // chunks + (number < count % chunks) for number in range(chunks)]


OUT_OF_MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc")
"""What errors say that have no type of their own: the CPU's allocator, CUDA, its libraries, C++."""


def forget_memory() -> None:
    """Begin with full batches again, for another model."""
    global _most
    _most = None


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on whatever device."""
    import torch

    in_words = isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or in_words


def with_smaller_batches(work: Callable[[], Result], image_size: int, on: torch.device) -> Result:
    """Do some work, and do it again with batches of half the size as often as memory runs out.

    Args:
        work: asks `batch_size` how much to do at once; must not leave anything behind when it fails.
        image_size: side of the images in pixels.
        on: the device.

    Returns:
        What ``work`` returns. The smaller size is kept for all work to come.

    Raises:
        UserError: memory ran out for a single image.
    """
    global _most
    while True:
        size = batch_size(image_size, on)
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error):
                raise
        # Only here, where the error and with it everything that the failed work held is gone.
        if size == 1:
            raise UserError(f"memory ran out on {on} for a single image of {image_size} pixels a side; allowed: a "
                            "smaller model or image, a larger device, or fewer threads (COSE_THREADS)")  # fmt: skip
        _most = min(_most or size, size // 2)
        print(f"memory ran out at {size} images per evaluation; going on with {_most}", file=sys.stderr)
        if on.type == "cuda":
            import torch

            torch.cuda.empty_cache()
