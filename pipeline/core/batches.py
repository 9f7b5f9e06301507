"""How many images go through a network at once, and doing with fewer when memory runs out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from pipeline.core.device import positive
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

CPU_PIXELS, CPU_IMAGES = 2**17, 4
"""Pixels, and at least images, per evaluation: on a core, small networks are fastest near the cache, and large ones
gain nothing beyond a few images."""
GPU_PIXELS = 2**22
"""On a GPU, batches fill the card."""

_most: int | None = None
"""What memory was found to allow, once it ran out."""


def batch_size(image_size: int, device: torch.device) -> int:
    """Return how many images to evaluate at once."""
    usual = (
        max(CPU_IMAGES, CPU_PIXELS // image_size**2) if device.type == "cpu" else max(1, GPU_PIXELS // image_size**2)
    )
    chosen = positive("COSE_BATCH", 100_000) or usual
    return min(chosen, _most or chosen)


def batches(count: int, image_size: int, device: torch.device) -> list[slice]:
    """Cut images into as few batches as possible, of sizes that differ by at most one.

    A last batch of a few images would cost nearly as much as a full one.

    Args:
        count: how many images there are.
        image_size: side of the images in pixels.
        device: to compute on.

    Returns:
        Slices in order, none longer than `batch_size`; one empty slice where there are no images.
    """
    chunks = max(1, -(-count // batch_size(image_size, device)))
    longer = count % chunks
    ends = [count // chunks * number + min(number, longer) for number in range(chunks + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


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


def with_smaller_batches(work: Callable[[], Result], image_size: int, device: torch.device) -> Result:
    """Do some work, and do it again with batches of half the size as often as memory runs out.

    Args:
        work: asks `batch_size` how much to do at once; must not leave anything behind when it fails.
        image_size: side of the images in pixels.
        device: to compute on.

    Returns:
        What ``work`` returns. The smaller size is kept for all work to come.

    Raises:
        UserError: memory ran out for a single image.
    """
    global _most
    while True:
        size = batch_size(image_size, device)
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error):
                raise
        # Only here, where the error and with it everything that the failed work held is gone.
        if size == 1:
            raise UserError(
                f"device {device}",
                f"memory ran out for a single image of {image_size} pixels a side",
                expected="a smaller model or image, a larger device, or fewer threads (COSE_THREADS)",
            )
        _most = min(_most or size, size // 2)
        print(f"memory ran out at {size} images per evaluation; going on with {_most}", file=sys.stderr)
        if device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
