"""Work shared out to threads, its results in order.

Torch, numpy and scikit-image let go of Python's lock while they compute, so threads are enough to fill the cores. Each
piece of work is computed by one thread from beginning to end: what comes out does not depend on how many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2
"""Results per thread that may wait for an earlier one: enough to keep all threads busy, few enough to fit."""


def in_order(work: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Generator[Result]:
    """Compute several tasks at a time and yield the results in the order of the tasks.

    Args:
        work: called in one of the threads with each task.
        tasks: taken as the work goes on, never all at once.
        workers: threads.

    Yields:
        ``work(task)``; whoever takes it does so while the threads go on. Close the generator (`contextlib.closing`)
        where taking may fail, so that what has not begun is dropped then too.

    Raises:
        Exception: what the first failing task raised; tasks that have not begun are dropped.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="worker") as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
