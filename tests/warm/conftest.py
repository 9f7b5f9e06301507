"""A workspace of a few small stages, whose preloaded interpreter is loaded in a moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is preloaded elsewhere")

ROOT = Path(__file__).parents[2]
SHOW = """
import gc, json, os, signal, sys
from pathlib import Path

stream = lambda one: one and [one.name, one.mode, one.encoding, one.errors, one.line_buffering, one.isatty(),
                              getattr(one, "write_through", None), type(getattr(one, "buffer", None)).__name__]
said = {
    "warm": gc.get_freeze_count() > 0, "server": None, "process": os.getpid(), "name": __name__, "argv": sys.argv,
    "orig_argv": sys.orig_argv, "directory": os.getcwd(), "environment": dict(os.environ),
    "umask": os.umask(0o22), "path": sys.path, "streams": [stream(sys.stdin), stream(sys.stdout), stream(sys.stderr)],
    "same": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    "signals": {int(one): str(signal.getsignal(one)) for one in signal.valid_signals()
                if one not in (signal.SIGKILL, signal.SIGSTOP)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "descriptors": sorted(int(one) for one in os.listdir("/proc/self/fd"))[:-1],
    "own": sorted(name for name in sys.modules if name.split(".")[0] in ("warm", "stages")), "gc": gc.isenabled(),
    "read": "" if sys.stdin is None else sys.stdin.read(),
}
if said["warm"]:
    keeper = Path(f"/proc/{os.getppid()}/stat").read_text().split()[3]
    said["server"] = int(keeper)
print(json.dumps(said))
"""
STAGES = {
    "__init__": "from warm.client import run_warm\n\nrun_warm()\n",
    "show": SHOW,
    "ends": "import os, sys\n\n{'code': lambda: sys.exit(int(sys.argv[2])), 'text': lambda: sys.exit(sys.argv[2]),\n"
    " 'none': lambda: None, 'raise': lambda: 1 / 0, 'at once': lambda: os._exit(int(sys.argv[2])),\n"
    " 'signal': lambda: os.kill(os.getpid(), int(sys.argv[2]))}[sys.argv[1]]()\n",
    "sleeps": "import os, subprocess, sys, time\n\nchild = subprocess.Popen(['sleep', '60'])\n"
    "print(os.getpid(), child.pid, flush=True)\ntime.sleep(60 if len(sys.argv) < 2 else float(sys.argv[1]))\n"
    "child.kill()\nprint('slept', flush=True)\nsys.exit(5)\n",
}


class Workspace:
    """A folder with `warm/` and stages of a test's own; its sockets lie in a folder of their own."""

    def __init__(self, root: Path, sockets: Path) -> None:
        self.root, self.sockets = root, sockets / f"cose-{os.getuid()}"
        shutil.copytree(ROOT / "warm", root / "warm", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "requirements.lock").write_text("numpy==1\n")
        (root / "stages").mkdir()
        (root / "pipeline").mkdir()
        for name, text in STAGES.items():
            (root / "stages" / f"{name}.py").write_text(text)
        unset = ("COSE_WARM", "PYTHONUNBUFFERED")
        self.environment = {name: value for name, value in os.environ.items() if name not in unset}
        self.environment |= {"XDG_RUNTIME_DIR": str(sockets), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(
        self, stage: str, *arguments: str, variables: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        given: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "cwd": self.root,
        }
        command = [sys.executable, "-m", f"stages.{stage}", *arguments]
        return subprocess.Popen(command, env=self.environment | (variables or {}), **given | options)

    def run(self, stage: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a stage to its end."""
        read = options.pop("input", None)
        if read is not None:
            options["stdin"] = subprocess.PIPE
        with self.start(stage, *arguments, **options) as process:
            out, err = process.communicate(read, timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run_warm(self, stage: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a stage to its end, and make sure that a preloaded interpreter ran it."""
        before = self.served()
        done = self.run(stage, *arguments, **options)
        assert self.served() == before + 1
        return done

    def served(self) -> int:
        (said,) = self.sockets.glob("*.json")
        return json.loads(said.read_text())["served"]

    def show(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Run the stage that says what it finds."""
        done = self.run("show", *arguments, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def warm(self, command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "warm", command], cwd=self.root, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def loaded(self, variables: dict[str, str] | None = None) -> int:
        """Start a preloaded interpreter, wait until it serves, and return its process."""
        self.show(variables=variables)
        return eventually(lambda: self.show(variables=variables)["server"])

    def files(self) -> list[str]:
        return sorted(file.name for file in self.sockets.iterdir())


def eventually(ask: Callable[[], Any], seconds: float = 20) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return answer


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def sockets() -> Iterator[Path]:
    # A socket's path may have a hundred bytes, fewer than pytest's own folders take.
    with tempfile.TemporaryDirectory(prefix="warm", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def make(tmp_path: Path, sockets: Path) -> Iterator[Callable[[str], Workspace]]:
    """Return a function that makes a workspace of a name; they share the folder of sockets."""
    made: list[Workspace] = []

    def workspace(name: str) -> Workspace:
        (tmp_path / name).mkdir()
        made.append(Workspace(tmp_path / name, sockets))
        return made[-1]

    yield workspace
    for one in made:
        if one.root.exists():
            one.warm("stop")


@pytest.fixture
def workspace(make: Callable[[str], Workspace]) -> Workspace:
    return make("workspace")
