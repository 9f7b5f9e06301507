"""Kill small runs at random moments, and see whether the same command mends them: `python -m tests.killed`.

Each time a run from nothing is killed with SIGKILL: DVC itself or one of its stages. The same command is then run
until it ends well, which the second time it has to. Nothing may be left of the killed processes, nothing half-written,
and the metrics are those of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.world import World, folder_of_pictures, small_params

VICTIMS = ("runner", "stages.train", "stages.explain", "stages.score")


class Chain:
    """A small chain that can be run from nothing."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.world.set(small_params(self.world, folder_of_pictures(root / "pictures", per_class=10)))
        self.world.start_dvc()
        self.seconds = 0.0

    def empty(self) -> None:
        """Forget all that was computed."""
        for path in ("data", "metrics", ".dvc/cache", ".dvc/tmp"):
            shutil.rmtree(self.world.root / path, ignore_errors=True)
        (self.world.root / ".dvc/tmp").mkdir()
        (self.world.root / "dvc.lock").unlink(missing_ok=True)

    def start(self) -> subprocess.Popen[str]:
        """Start a run."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [sys.executable, "-m", "runner", "repro"],
            cwd=self.world.root,
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "COSE_WARM": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def finish(self) -> tuple[int, str]:
        """Run to the end."""
        process = self.start()
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def metrics(self) -> dict[str, bytes]:
        """Return the numbers that a run ends with."""
        return {
            path.name: path.read_bytes()
            for path in sorted((self.world.root / "metrics").rglob("*.*"))
            if path.suffix in (".csv", ".json")
        }

    def processes(self) -> list[psutil.Process]:
        """Return the processes that work in the chain's folder, but for preloaded interpreters."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.world.root) and "warm.server" not in process.cmdline():
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def kill(self, victim: str, wait: float) -> str:
        """Start a run, kill one of its processes after a while, and return which it was."""
        process = self.start()
        end = time.monotonic() + 120
        time.sleep(wait)
        while process.poll() is None and time.monotonic() < end:
            targets = [one for one in self.processes() if victim in _command(one)]
            if targets:
                targets[0].send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        process.communicate(timeout=120)
        return victim

    def left_behind(self) -> list[str]:
        """Return what a killed run has left once everything has had the time to end."""
        end = time.monotonic() + 15
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        return [" ".join(one.cmdline()) for one in self.processes()]

    def unfinished(self) -> list[Path]:
        """Return drafts that nobody writes to any more."""
        return [path for path in self.world.root.rglob("*.tmp") if ".dvc" not in path.parts]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def check(chain: Chain, kills: int, seed: int) -> None:
    """Kill so many runs, and fail where one is not mended by the same command."""
    chain.empty()
    began = time.monotonic()
    code, output = chain.finish()
    assert code == 0, output
    whole, whole_metrics = time.monotonic() - began, chain.metrics()
    assert len(whole_metrics) > 10
    rng = random.Random(seed)
    for number in range(kills):
        chain.empty()
        victim = VICTIMS[number % len(VICTIMS)]
        wait = rng.uniform(0, 0.9 * whole if victim == "runner" else 1)
        chain.kill(victim, wait)
        orphans = chain.left_behind()
        assert not orphans, f"{victim} killed after {wait:.1f} s: {orphans}"
        code, output = chain.finish()
        assert code == 0, f"{victim} killed after {wait:.1f} s: {output[-2000:]}"
        assert chain.metrics() == whole_metrics, f"{victim} killed after {wait:.1f} s: other metrics"
        assert not chain.unfinished(), f"{victim} killed after {wait:.1f} s: {chain.unfinished()}"
        print(f"{number + 1}: {victim} killed after {wait:.1f} s of {whole:.1f} s, and mended by the same command")


def main() -> None:
    """Run the check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check(Chain(Path(folder)), arguments.kills, arguments.seed)


if __name__ == "__main__":
    main()
