"""What starting a stage takes: `python -m benchmarks.startup`, and with ``--chain`` what all starts of a run take.

A start is everything from the new process, whose beginning the kernel tells to a hundredth of a second (rounded down),
to the first line of the stage's own work (the auditing event ``cose.stage``), and the imports that it leaves until
later. Stages start with a preloaded interpreter and without (``COSE_WARM=0``), in turns. The chain runs in a scratch
folder with this folder's params.yaml, in turns as well.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

STAGES = {
    "fingerprint": (),
    "check_params": (),
    "prepare": ("--dataset", "x"),
    "train": ("--cell", "x"),
    "predict": ("--cell", "x", "--dataset", "x"),
    "explain": ("--cell", "x", "--method", "lime"),
    "score": ("--cell", "x", "--method", "lime"),
    "faithfulness_limits": ("--cell", "x"),
    "faithfulness": ("--cell", "x", "--method", "lime"),
    "objects": ("--cell", "x", "--dataset", "x"),
    "localisation": ("--cell", "x", "--method", "lime"),
    "gallery": ("--cell", "x", "--dataset", "x"),
    "aggregate": (),
}
COPIED = (
    "pipeline",
    "runner",
    "stages",
    "warm",
    "profiles",
    "dvc.yaml",
    "params.yaml",
    "requirements.lock",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
)
WARM = {"warm": "1", "cold": "0"}
WATCH = """
import atexit, builtins, os, sys, threading, time

clock = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
inside, late, plain = threading.local(), [], builtins.__import__

def timed(*arguments, **options):
    if getattr(inside, "depth", 0):
        return plain(*arguments, **options)
    inside.depth, start = 1, clock()
    try:
        return plain(*arguments, **options)
    finally:
        inside.depth = 0
        late.append(clock() - start)

def write(stage, start):
    with open(os.environ["START_LOG"], "a") as log:
        log.write(f"{stage},{start},{sum(late)}\\n")

def note(event, _):
    if event == "cose.stage":
        start = clock() - float(os.environ["START_BEGAN"])
        stage = os.path.basename(sys.argv[0]).removesuffix(".py")
        if "START_ONLY" in os.environ:
            write(stage, start)
            os._exit(0)
        builtins.__import__ = timed
        atexit.register(write, stage, start)

if "START_LOG" in os.environ:
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    os.environ["START_BEGAN"] = str(ticks / os.sysconf("SC_CLK_TCK"))
    sys.addaudithook(note)
"""
"""Found by Python at every start: when the process began, when its own work does, and what it imports after that."""


def main() -> None:
    """Time starts, or whole runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", action="store_true", help="run the whole chain, which takes a while")
    parser.add_argument("--repeats", type=int, help="of every start (20), or of the chain (1)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "workspace"
        for name in COPIED:
            copy = shutil.copytree if Path(name).is_dir() else shutil.copy
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            copy(name, root / name)
        (Path(folder) / "sitecustomize.py").write_text(WATCH)
        log = Path(folder) / "starts.csv"
        # The environment's programs first, whether it is activated or not.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        # The sockets lie here too, so that no other workspace is asked.
        os.environ |= {"PATH": path, "PYTHONPATH": folder, "START_LOG": str(log), "XDG_RUNTIME_DIR": folder}
        (chain if arguments.chain else starts)(root, log, arguments.repeats)
        run(root, "warm", sys.executable, "-m", "warm", "stop")


def starts(root: Path, log: Path, repeats: int | None) -> None:
    """Start every stage, warm and cold in turns, and end it where its own work would begin."""
    os.environ["START_ONLY"] = "1"
    run(root, "warm", sys.executable, "-m", "stages.fingerprint")
    wait_until_loaded(root)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(repeats or 20):
        for stage, names in STAGES.items():
            for kind in WARM:
                log.unlink(missing_ok=True)
                run(root, kind, sys.executable, "-m", f"stages.{stage}", *names)
                found[stage, kind].append(float(log.read_text().split(",")[1]))
    served = re.search(r"(\d+) stages so far", run(root, "warm", sys.executable, "-m", "warm", "status"))
    if served is None or int(served[1]) != (repeats or 20) * len(STAGES):
        sys.exit("error: not every warm start was warm")
    print("| stage | warm s | cold s |\n|---|--:|--:|")
    for stage in STAGES:
        columns = [
            f"{statistics.median(found[stage, kind]):.3f} ({min(found[stage, kind]):.3f} to "
            f"{max(found[stage, kind]):.3f})"
            for kind in WARM
        ]
        print(f"| {stage} | {' | '.join(columns)} |")


def chain(root: Path, log: Path, repeats: int | None) -> None:
    """Run the whole chain, cold and warm in turns, and compare what they wrote."""
    run(root, "cold", "git", "init", "-q")
    run(root, "cold", "dvc", "init", "-q", "-f")
    shutil.copy(".dvc/config", root / ".dvc/config")
    seconds: dict[str, list[float]] = defaultdict(list)
    results = {}
    for _ in range(repeats or 1):
        for kind in reversed(WARM):
            for name in ("data", "metrics", ".dvc/cache", ".dvc/tmp"):
                shutil.rmtree(root / name, ignore_errors=True)
            for file in (root / "dvc.lock", log):
                file.unlink(missing_ok=True)
            begin = time.monotonic()
            run(root, kind, sys.executable, "-m", "runner", "repro", "-q")
            wall = time.monotonic() - begin
            run(root, "warm", sys.executable, "-m", "warm", "stop")
            lines = [(stage, float(start), float(late)) for stage, start, late in csv.reader(log.open())]
            start, late = sum(one[1] for one in lines), sum(one[2] for one in lines)
            seconds[kind].append(wall)
            results[kind] = digests(root)
            print(
                f"{kind}: {wall:.0f} s, of which {len(lines)} starts {start:.1f} s and later imports {late:.1f} s: "
                f"{(start + late) / wall:.1%}",
                flush=True,
            )
    ratios = [cold / warm for cold, warm in zip(seconds["cold"], seconds["warm"], strict=True)]
    print(f"cold ÷ warm: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    different = sorted(
        name
        for name in results["warm"].keys() | results["cold"].keys()
        if results["warm"].get(name) != results["cold"].get(name)
    )
    print(f"{len(results['warm'])} files compared; different: {', '.join(different) or 'none'}")
    if different:
        sys.exit(1)


def digests(root: Path) -> dict[str, str]:
    """Return the hash of every file that a run wrote, the lock file among them."""
    files = [root / "dvc.lock", *(file for name in ("data", "metrics") for file in (root / name).rglob("*"))]
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def wait_until_loaded(root: Path) -> None:
    """Wait for the preloaded interpreter to serve."""
    while "loaded in" not in (said := run(root, "warm", sys.executable, "-m", "warm", "status")):
        if "could not" in said:
            sys.exit(f"error: {said}")
        time.sleep(0.2)


def run(root: Path, kind: str, *command: str) -> str:
    """Run a command, warm or cold, and return what it printed."""
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=os.environ | {"COSE_WARM": WARM[kind]})
    if done.returncode:
        sys.exit(f"error: {' '.join(command[1:4])}: exit {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


if __name__ == "__main__":
    main()
