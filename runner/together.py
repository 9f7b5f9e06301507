"""Several stages at once, on one machine.

`dvc repro` runs one stage after the other. Most stages of a small grid take about as long to start, to check their
tables and to be hashed as to compute, with one core; two at a time, on a thread each, keep both cores of a laptop busy.

DVC's own code is not made for threads, and none of it runs in two of them here: each stage has a thread, but only the
one whose *turn* it is goes on. A thread gives its turn up while the command of its stage runs, which is when DVC lets
go of its lock of the repository too, and nowhere else. So what is recorded of a stage is what `dvc repro` records.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.repo import reproduce
from dvc.stage import Stage, run

from pipeline.core.device import cores, positive

MOST = 4
"""Stages at once that nobody has asked for; more would mostly wait for DVC."""
MOST_JOBS = 9999
"""Stages at once that may be asked for."""
MEMORY = 4 * 2**30
"""Bytes of the machine's memory for each stage, so that big models on many cores do not fill it."""


def jobs() -> int:
    """Return how many stages to run at once: COSE_JOBS, or what suits this machine; one where stages share a GPU.

    Raises:
        UserError: COSE_JOBS is set, and not to a whole number from 1.
    """
    chosen = positive("COSE_JOBS", MOST_JOBS)
    if chosen is not None:
        return chosen
    if os.environ.get("COSE_DEVICE", "cuda" if Path("/dev/nvidiactl").exists() else "cpu") != "cpu":
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else MEMORY
    return max(1, min(MOST, cores(), memory // MEMORY))


@contextmanager
def together(at_once: int) -> Iterator[None]:
    """Within it, `dvc repro` runs up to ``at_once`` stages at the same time, and shares the cores out among them.

    Dry runs, questions before each stage and single stages without what they depend on stay as they are.
    """
    one_by_one, run_command = reproduce._reproduce, run._run
    before = os.environ.get("COSE_THREADS")

    def reproduce_together(stages: list[Stage], graph: Any = None, **options: Any) -> list[Stage]:
        if at_once == 1 or graph is None or options.get("dry") or options.get("interactive"):
            return one_by_one(stages, graph=graph, **options)
        if not before:
            os.environ["COSE_THREADS"] = str(max(1, cores() // at_once))
        try:
            return Run(stages, graph, at_once, **options).finish()
        finally:
            if not before:
                os.environ.pop("COSE_THREADS", None)

    def run_elsewhere(*arguments: Any, **options: Any) -> None:
        with _Turn.given_up():
            run_command(*arguments, **options)

    reproduce._reproduce, run._run = reproduce_together, run_elsewhere
    try:
        yield
    finally:
        reproduce._reproduce, run._run = one_by_one, run_command


class _Turn:
    """Whose turn it is to run DVC's code; a thread that never took one has nothing to give up."""

    lock = threading.Lock()
    mine = threading.local()

    @classmethod
    @contextmanager
    def taken(cls) -> Iterator[None]:
        with cls.lock:
            cls.mine.held = True
            try:
                yield
            finally:
                cls.mine.held = False

    @classmethod
    @contextmanager
    def given_up(cls) -> Iterator[None]:
        if not getattr(cls.mine, "held", False):
            yield
            return
        cls.lock.release()
        try:
            yield
        finally:
            cls.lock.acquire()


class Run:
    """One `dvc repro`, whose main thread hands out stages and whose workers run them.

    Args:
        stages: what may have to run, each after all that it depends on.
        graph: stages, and edges from each to those that it depends on.
        at_once: number of workers.
        force_downstream: run what depends on a stage that ran, changed or not.
        on_error: ``fail`` starts nothing more, ``keep-going`` leaves out what depends on the failed stage, ``ignore``
            nothing. Stages that run are waited for in any case.
        force: run all stages, changed or not.
        repro_fn: DVC's function for one stage.
        options: passed on to it.
    """

    def __init__(
        self,
        stages: list[Stage],
        graph: Any,
        at_once: int,
        *,
        force_downstream: bool = False,
        on_error: str = "fail",
        force: bool = False,
        repro_fn: Callable[..., Stage | None] = reproduce._reproduce_stage,
        **options: Any,
    ) -> None:
        self.graph, self.at_once, self.on_error = graph, at_once, on_error
        self.force_downstream, self.repro_fn, self.options = force_downstream, repro_fn, options
        self.force = dict.fromkeys(stages, force)
        self.missing = {stage: {one for one in graph.successors(stage) if one in self.force} for stage in stages}
        self.waiting = sorted(stages, key=self._steps_after(stages).__getitem__, reverse=True)
        self.running: set[Stage] = set()
        self.ran: list[Stage] = []
        self.failed: dict[Stage, BaseException] = {}
        self.ended: queue.SimpleQueue[tuple[Stage, Stage | None, BaseException | None]] = queue.SimpleQueue()
        self.interrupted = False

    def _steps_after(self, stages: list[Stage]) -> dict[Stage, int]:
        """Return how many stages must follow each, one after the other: the longest way comes first.

        So trainings do not wait until everything else has run, and nothing waits for them alone in the end.
        """
        after: dict[Stage, int] = {}
        for stage in reversed(stages):
            after[stage] = max((after[one] + 1 for one in self.graph.predecessors(stage) if one in after), default=0)
        return after

    def finish(self) -> list[Stage]:
        """Run all stages that have to run, and return those that did.

        Raises:
            ReproductionError: a stage failed.
            KeyboardInterrupt: somebody pressed Ctrl-C, and no stage failed of it.
        """
        lock = next(iter(self.force)).repo.lock if self.force else None
        if lock is None:
            return []
        lock.unlock()  # DVC has it here; workers take it, and let go of it, with their turns
        try:
            with ThreadPoolExecutor(self.at_once) as pool, self._interruptible():
                while self._start(pool):
                    self._note(*self.ended.get())
        finally:
            lock.lock()
        if self.failed and self.on_error != "ignore":
            # As DVC does: what went wrong has been said of each of several failed stages, and is said now of one.
            error = next(iter(self.failed.values())) if self.on_error == "fail" else None
            reproduce._raise_error(error, *self.failed)
        if self.interrupted:
            raise KeyboardInterrupt
        return self.ran

    def _start(self, pool: ThreadPoolExecutor) -> bool:
        """Start what may start now, and say whether anything runs."""
        if not (self.interrupted or (self.failed and self.on_error == "fail")):
            for stage in [one for one in self.waiting if not self.missing[one]][: self.at_once - len(self.running)]:
                self.waiting.remove(stage)
                self.running.add(stage)
                pool.submit(self._work, stage)
        return bool(self.running)

    def _work(self, stage: Stage) -> None:
        ran: Stage | None = None
        error: BaseException | None = None
        try:
            with _Turn.taken(), stage.repo.lock:
                upstream = list(self.graph.successors(stage))
                ran = self.repro_fn(stage, upstream=upstream, force=self.force[stage], **self.options)
                if ran:
                    reproduce.logger.info("")
        except BaseException as found:  # the main thread decides what becomes of it
            error = found
        self.ended.put((stage, ran, error))

    def _note(self, stage: Stage, ran: Stage | None, error: BaseException | None) -> None:
        """Take a stage that ended, and let those start that waited for it alone."""
        self.running.remove(stage)
        dependents = list(self.graph.predecessors(stage))
        left_out: set[Stage] = set()
        if error is not None:
            self.failed[stage] = error
            if self.on_error == "fail":
                if len(self.failed) > 1:
                    reproduce.logger.warning("%s", error)
            else:
                left_out = reproduce.handle_error(self.graph, self.on_error, error, stage)
        else:
            if ran:
                self.ran.append(ran)
            if self.force_downstream and (ran or self.force[stage]):
                self.force.update({one: True for one in dependents if one in self.force})
        self.waiting = [one for one in self.waiting if one not in left_out]
        for one in dependents:
            if one in self.missing:
                self.missing[one].discard(stage)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C end the stages that run, which get it as well, and start no others.

        DVC ignores it while a stage runs, for the same reason; here it is told that the run must end.
        """

        def stop(*_: Any) -> None:
            self.interrupted = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
