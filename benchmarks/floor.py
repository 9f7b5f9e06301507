"""The least time that an evaluation of a model takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from benchmarks.world import SEED, World, network
from pipeline.core.batches import batch_size
from pipeline.core.device import threads
from pipeline.models.build import build
from pipeline.models.classifier import Classifier
from pipeline.results.estimate import prepared

SHARED, APART = "threads share a batch", "a batch a thread"
"""Two ways to use the cores."""


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return the milliseconds that some work takes, and what it returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - start), result


class Floor:
    """The best ways found to make a forward pass and a gradient, timed again whenever it is asked."""

    def __init__(self, world: World) -> None:
        """Search over batch sizes, layouts and ways to use the cores."""
        self._world = world
        plain = build(network(world.name, world.side), SEED).to(world.device).requires_grad_(False)
        fast = prepared(build(network(world.name, world.side), SEED).to(world.device), world.side)
        models = {"plain": plain, "folded, channels last": fast}
        usual = batch_size(world.side, world.device)
        sizes = sorted({max(1, usual // 2), usual, 2 * usual})
        self.best: dict[str, tuple[Classifier, int, str]] = {}
        self.words: dict[str, str] = {}
        for kind in ("forward", "gradient"):
            tried = {
                (label, size, share): _evaluation(world, kind, model, size, share=share)
                for size in sizes
                for label, model in models.items()
                for share in (SHARED, APART)
            }
            # The best few again: the search itself is noisy.
            again = {
                way: float(
                    np.median([_evaluation(world, kind, models[way[0]], way[1], share=way[2]) for _ in range(3)])
                )
                for way in sorted(tried, key=lambda way: tried[way])[:3]
            }
            label, size, share = min(again, key=lambda way: again[way])
            self.best[kind] = (models[label], size, share)
            self.words[kind] = f"{label}, {size} images, {share}"

    def now(self, kind: str) -> float:
        """Return the milliseconds that an image takes at this moment."""
        model, size, share = self.best[kind]
        return _evaluation(self._world, kind, model, size, share=share)


def _evaluation(world: World, kind: str, model: Classifier, size: int, *, share: str) -> float:
    """Return milliseconds per image of one way to evaluate."""
    together = share == SHARED
    count = 1 if together else threads()
    torch.set_num_threads(threads() if together else 1)
    drawn = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, world.side, world.side, generator=drawn).to(world.device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(size, dtype=torch.int64, device=world.device)

    def evaluate(_: int = 0) -> None:
        if kind == "gradient":
            inputs = images.detach().clone(memory_format=torch.channels_last).requires_grad_()
            with torch.enable_grad():
                score = model(inputs).softmax(dim=1).gather(1, targets[:, None]).sum()
            torch.autograd.grad(score, inputs)
        else:
            with torch.inference_mode():
                model(images)

    with ThreadPoolExecutor(count) as pool:
        once, _ = timed(lambda: list(pool.map(evaluate, range(count))), world.device)
        if once < 1000:  # the first one was slow because it was the first
            once, _ = timed(lambda: list(pool.map(evaluate, range(count))), world.device)
        rounds = max(1, round(400 / once))
        total, _ = timed(lambda: list(pool.map(evaluate, range(rounds * count))), world.device)
    return total / (rounds * count * size)
