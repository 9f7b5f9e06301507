"""Threads, batches and memory: how the work is shared out, and that results do not depend on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline import compute
from pipeline.errors import UserError
from pipeline.models import Classifier
from pipeline.parallel import AHEAD, in_order
from pipeline.registry import METHODS
from tests.conftest import model_settings
from tests.settings import SMALL

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "_most", None)


def test_results_come_in_order_whoever_is_first() -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (7 - number % 7))
        return number * number

    assert list(in_order(work, range(40), 4)) == [number * number for number in range(40)]
    assert list(in_order(work, [], 4)) == []


def test_tasks_are_taken_as_the_work_goes_on() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_order(lambda number: number, tasks(), 3)
    assert next(results) == 0
    assert len(taken) == AHEAD * 3
    results.close()  # type: ignore[attr-defined]
    assert len(taken) == AHEAD * 3


def test_as_many_work_at_once_as_there_are_workers() -> None:
    barrier = threading.Barrier(3, timeout=10)
    assert list(in_order(lambda number: barrier.wait() >= 0, range(6), 3)) == [True] * 6


def test_the_first_error_stops_the_work() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        if number == 3:
            raise UserError("number 3")
        return number

    with pytest.raises(UserError, match="number 3"):
        list(in_order(work, range(10_000), 2))
    assert len(started) < 20


@pytest.mark.parametrize(("count", "size", "lengths"), [(9, 4, [3, 3, 3]), (8, 4, [4, 4]), (5, 4, [3, 2]), (1, 4, [1]),
                                                       (0, 4, [0])])  # fmt: skip
def test_even_chunks(count: int, size: int, lengths: list[int]) -> None:
    assert compute.even(count, size) == lengths


def test_each_worker_computes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Threads that meet after every layer are what makes two stages at once collapse.
    before = torch.get_num_threads()
    monkeypatch.setenv("COSE_THREADS", "3")
    try:
        count = compute.workers(CPU)
        seen = list(in_order(lambda _: torch.get_num_threads(), range(6), count))
    finally:
        torch.set_num_threads(before)
    assert count == 3
    assert seen == [1] * 6


class Narrow(torch.nn.Module):
    """A network that runs out of memory when it gets more than three images."""

    def __init__(self, network: torch.nn.Module, error: type[Exception] | None) -> None:
        super().__init__()
        self.network, self.error, self.seen = network, error, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        if len(images) > 3:
            if self.error is not None:
                raise self.error("out of memory")
            torch.empty(2**50)  # the allocator's own error
        return self.network(images)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, None])
@pytest.mark.parametrize("name", METHODS)
def test_batches_are_halved_until_they_fit(
    name: str, error: type[Exception] | None, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COSE_BATCH", "8")
    explain, settings = METHODS[name].explain, SMALL[name]
    expected = explain(convnet, images, targets, settings, [0] * 5)
    narrow = Narrow(convnet.network, error)
    model = Classifier(narrow, model_settings("network.3")).eval()
    maps = compute.with_smaller_batches(lambda: explain(model, images, targets, settings, [0] * 5), 24, CPU)
    assert max(narrow.seen) > 3
    assert narrow.seen[-1] <= 3
    assert compute.batch_size(24, CPU) in (2, 4)  # 4 where five images are cut into three and two
    assert "memory ran out at 8 images per evaluation; going on with 4" in capsys.readouterr().err
    assert (maps - expected).abs().mean() < 0.01


def test_a_single_image_that_does_not_fit_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_BATCH", "4")

    def work() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="memory ran out on cpu for a single image of 224 pixels a side"):
        compute.with_smaller_batches(work, 224, CPU)


def test_other_errors_are_left_alone() -> None:
    def work() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        compute.with_smaller_batches(work, 224, CPU)
    assert compute.batch_size(224, CPU) == compute.CPU_IMAGES


@pytest.mark.parametrize("name", METHODS)
def test_no_method_costs_more_than_it_says(
    name: str, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, settings = METHODS[name], SMALL[name]
    evaluated: list[int] = []
    convnet.remembered.clear()
    handle = convnet.network.register_forward_pre_hook(lambda _, inputs: evaluated.append(len(inputs[0])))
    try:
        method.explain(convnet, images, targets, settings, [0] * len(images))
    finally:
        handle.remove()
    cost = method.cost(settings)
    said = len(images) * (cost.forward + cost.gradient)
    shared = len(np.unique(targets)) if name == "integrated_gradients" else 0
    assert sum(evaluated) - shared <= said
    if name != "lime":  # which asks about the same sample once
        assert sum(evaluated) - shared == said
    assert 1 <= cost.at_once <= max(1, cost.forward, cost.gradient)
