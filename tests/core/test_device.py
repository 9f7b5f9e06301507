"""What the work runs on: a device that is there, and threads that compute alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from pipeline.core.device import GPU_THREADS, device, threads, workers
from pipeline.core.errors import UserError
from pipeline.core.parallel import AHEAD, in_order

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("COSE_THREADS", "two", "COSE_THREADS: found 'two'; allowed: a whole number from 1"),
        ("COSE_THREADS", "0", "COSE_THREADS: found '0'; allowed: a whole number from 1"),
        ("COSE_THREADS", "999999", "COSE_THREADS: found '999999'; allowed: a whole number from 1 to 1024"),
        ("COSE_THREADS", "9" * 20, f"COSE_THREADS: found '{'9' * 20}'; allowed: a whole number from 1 to 1024"),
        ("COSE_THREADS", "9" * 5000, f"COSE_THREADS: found '{'9' * 40}'; allowed: a whole number from 1 to 1024"),
        ("COSE_THREADS", "²", "COSE_THREADS: found '²'; allowed: a whole number from 1 to 1024"),
        ("COSE_DEVICE", "hpu", "COSE_DEVICE: found 'hpu'; not usable"),
        ("COSE_DEVICE", "privateuseone", "COSE_DEVICE: found 'privateuseone'; not usable"),
        ("COSE_DEVICE", "os", "COSE_DEVICE: found 'os'; not usable"),
        ("COSE_DEVICE", "x" * 5000, f"COSE_DEVICE: found '{'x' * 40}'; not usable"),
        ("COSE_DEVICE", "gpu", "COSE_DEVICE: found 'gpu'; not usable"),
        ("COSE_DEVICE", "cuda:97", "COSE_DEVICE: found 'cuda:97'; not usable"),
        ("COSE_DEVICE", "meta", "COSE_DEVICE: found 'meta'; not usable"),
    ],
)
def test_bad_environment(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"environment variable {message}") as caught:
        device()
    assert "\n" not in str(caught.value)


def test_as_many_threads_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_DEVICE", "cpu")
    monkeypatch.setenv("COSE_THREADS", "3")
    assert device() == CPU
    assert threads() == torch.get_num_threads() == 3
    monkeypatch.delenv("COSE_THREADS")
    assert threads() >= 1


def test_each_worker_computes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Threads that meet after every layer are what makes two stages at once collapse.
    monkeypatch.setenv("COSE_THREADS", "3")
    count = workers(CPU)
    seen = list(in_order(lambda _: torch.get_num_threads(), range(6), count))
    assert count == 3
    assert seen == [1] * 6
    monkeypatch.setenv("COSE_THREADS", "99")
    assert workers(torch.device("cuda")) == GPU_THREADS


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
    results.close()
    assert len(taken) == AHEAD * 3


def test_as_many_work_at_once_as_there_are_workers() -> None:
    barrier = threading.Barrier(3, timeout=10)
    assert list(in_order(lambda number: barrier.wait() >= 0, range(6), 3)) == [True] * 6


def test_the_first_error_stops_the_work() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        if number == 3:
            raise UserError("number 3", "found wrong")
        return number

    with pytest.raises(UserError, match="number 3"):
        list(in_order(work, range(10_000), 2))
    assert len(started) < 20
