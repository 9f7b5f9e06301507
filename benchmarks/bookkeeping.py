"""What DVC itself takes on a grid: `python -m benchmarks.bookkeeping [--profile paper]`.

The graph of dvc.yaml stands in a scratch folder with the profile's params.yaml. Stages that compute are replaced by
commands that write a line, DVC's lock file is filled through its own functions, and then two things are timed: a
`dvc repro` with nothing to do, and what each finished stage adds to that, with DVC's own command and with `runner`'s.
No data is needed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COPIED = ("pipeline", "runner", "stages", "warm", "requirements.lock", ".dvcignore", ".dvc/config")
COMPUTED = r"python -m stages\.(prepare|train|predict|explain|score|aggregate)"
STAND_IN = """\
folder() { mkdir -p "$1" && echo "$2" > "$1/made.txt"; }
case $1 in
  prepare) mkdir -p data/prepared/$3
           for t in boxes images plan splits; do echo $3 > data/prepared/$3/$t.parquet; done ;;
  train) folder data/models/$3 $3; mkdir -p metrics/training; echo '{"loss": 1}' > metrics/training/$3.json
         echo epoch,validation_loss > metrics/training/$3.csv ;;
  predict) folder data/cells/$3 $3 ;;
  explain) folder data/explanations/$3/$5 "$3 $5" ;;
  score) folder data/scores/$3/$5 "$3 $5" ;;
  aggregate) folder data/aggregates all; echo '{"cose": 1}' > metrics/cose.json
             for t in accuracy cose table1 transforms; do echo cose > metrics/$t.csv; done ;;
esac
"""
FILL = """
import collections, subprocess
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
repo = Repo(".")
with repo.lock:
    repo._reset()
    by_file = collections.defaultdict(list)
    for stage in plan_repro(get_active_graph(repo.index.graph), None):
        stage.save_deps()
        subprocess.run(stage.cmd, shell=True, check=True)
        stage.save()
        stage.commit()
        by_file[stage.path].append(stage)
    for stages in by_file.values():
        stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
"""
COMMANDS: dict[str, tuple[list[str], int | None]] = {
    "dvc repro": (["dvc", "repro"], 3),
    "python -m runner repro": (["python", "-m", "runner", "repro"], None),
}
"""What is timed, and with how many stages: a few with DVC's own command, and one per cell with the other."""


def main() -> None:
    """Build the graph, fill its lock file, and print what DVC takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", help="profiles/<name>.yaml instead of params.yaml")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    params = Path(f"profiles/{arguments.profile}.yaml" if arguments.profile else "params.yaml")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build(root, params)
        stages = len(run(root, "dvc", "stage", "list", "--name-only")[2].split())
        lines = len((root / "dvc.lock").read_text().splitlines())
        print(f"{stages} stages, {lines:,} lines of dvc.lock")
        idle = [run(root, "dvc", "repro", "-q")[:2] for _ in range(arguments.repeats)]
        report("dvc repro with nothing to do", idle)
        cells = [file.name for file in sorted((root / "data/grid/explain").iterdir())]
        text = (root / "params.yaml").read_text()
        samples = itertools.count(2000)
        for name, (command, count) in COMMANDS.items():
            targets = [f"explain@{cell}-lime" for cell in cells[:count]] if count else ["--glob", "explain@*-lime"]
            each = []
            for _ in range(arguments.repeats):
                # Another number of samples each time, so that the stages have to run.
                pattern = r"(  lime:\n(?:    .*\n)*?    samples: )\d+"
                (root / "params.yaml").write_text(re.sub(pattern, rf"\g<1>{next(samples)}", text))
                run(root, "dvc", "repro", "-q", "check_params")
                busy, nothing = (run(root, *command, "-q", "-s", *targets) for _ in range(2))
                ran = len(cells[:count])
                each.append(((busy[0] - nothing[0]) / ran, (busy[1] - nothing[1]) / ran))
            report(f"each finished stage with {name} ({ran} of them)", each)


def build(root: Path, params: Path) -> None:
    """Make a repository with the graph, and fill its lock file and its outputs."""
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if Path(name).is_dir():
            shutil.copytree(name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif name != ".dvc/config":
            shutil.copy(name, root / name)
    (root / "params.yaml").write_text(params.read_text())
    (root / "dvc.yaml").write_text(re.sub(COMPUTED, r"sh stand_in.sh \1", Path("dvc.yaml").read_text()))
    (root / "stand_in.sh").write_text(STAND_IN)
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q", "-f")
    shutil.copy(".dvc/config", root / ".dvc/config")
    run(root, sys.executable, "-c", FILL)


def run(root: Path, *command: str) -> tuple[float, float, str]:
    """Run a command; return its wall-clock and CPU seconds and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    # The environment's programs first, whether it is activated or not.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "COSE_WARM": "0"}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"error: {' '.join(command[:3])}: exit {done.returncode}: {done.stderr[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def report(what: str, found: list[tuple[float, float]]) -> None:
    """Print medians and ranges of wall-clock and CPU seconds."""
    for kind, values in zip(("wall", "CPU"), zip(*found, strict=True), strict=True):
        print(f"{what}: {statistics.median(values):.2f} s {kind} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
