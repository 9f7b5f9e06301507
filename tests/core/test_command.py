"""How a stage ends: with one line where the user or the machine stops it, and with nothing half-written."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.world import ROOT

STAGE = """
import sys, time
from pathlib import Path
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from stages.command import run

def main(cell):
    \"\"\"Do something.\"\"\"
    with atomic_write(Path("data/cells/kept")) as draft:
        draft.mkdir()
        (draft / "part").write_text("new")
        {work}

sys.argv[1:] = ["--cell", "a"]
run(main, "cell")
"""


def start(work: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    kept = folder / "data/cells/kept"
    kept.mkdir(parents=True)
    (kept / "part").write_text("old")
    return subprocess.Popen(
        [sys.executable, "-c", STAGE.format(work=work)],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COSE_WARM": "0", **environment},
    )


def nothing_is_left(folder: Path) -> bool:
    return (folder / "data/cells/kept/part").read_text() == "old" and [
        one.name for one in (folder / "data/cells").iterdir()
    ] == ["kept"]


@pytest.mark.parametrize(
    ("work", "line"),
    [
        ("raise UserError('a', 'found b', expected='c')", "a: found b; allowed: c"),
        ("open('none/here')", "none/here: No such file or directory"),
        ("open('data')", "data: Is a directory"),
        ("raise PermissionError(13, 'Permission denied', 'data/x')", "data/x: Permission denied"),
        ("raise OSError(5, 'Input/output error')", "Input/output error"),
        ("raise MemoryError", "memory ran out"),
        (
            "raise MemoryError('Unable to allocate 9 GiB\\nfor an array')",
            "memory ran out (Unable to allocate 9 GiB for an array)",
        ),
    ],
)
def test_what_the_machine_refuses_is_one_line(work: str, line: str, tmp_path: Path) -> None:
    process = start(work, tmp_path)
    assert process.communicate(timeout=60) == ("", f"error: {line}\n")
    assert process.returncode == 1
    assert nothing_is_left(tmp_path)


def test_the_traceback_is_there_on_demand(tmp_path: Path) -> None:
    process = start("open('none/here')", tmp_path, COSE_TRACEBACK="1")
    _, said = process.communicate(timeout=60)
    assert said.startswith("Traceback")
    assert nothing_is_left(tmp_path)


def test_a_defect_shows_its_traceback(tmp_path: Path) -> None:
    process = start("1 / 0", tmp_path)
    _, said = process.communicate(timeout=60)
    assert said.startswith("Traceback")
    assert said.endswith("ZeroDivisionError: division by zero\n")
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize(("number", "line"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM")])
def test_a_signal_ends_a_stage_with_one_line(number: signal.Signals, line: str, tmp_path: Path) -> None:
    process = start("print('ready', flush=True); time.sleep(60)", tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", f"error: {line}; nothing is left half-written\n")
    assert process.returncode == -number
    assert time.monotonic() - began < 30
    assert nothing_is_left(tmp_path)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    process = start("print('x' * 100_000, flush=True)", tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(60) == 1
    assert nothing_is_left(tmp_path)


STAGES = sorted(file.stem for file in (ROOT / "stages").glob("*.py") if file.stem not in ("__init__", "command"))


@pytest.mark.parametrize("stage", STAGES)
def test_help_is_true_and_costs_little(stage: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", f"stages.{stage}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: python -m stages.{stage} [-h]")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "numpy", "pandas", "pipeline", "pydantic"}
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    documented = " ".join(str(ast.get_docstring(tree)).split())
    assert documented in " ".join(done.stdout.split())
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    own = {str(call.args[0].value) for call in calls if ast.unparse(call.func) == "parser.add_argument"}
    expected = own or {f"--{argument.arg}" for argument in main.args.args}
    assert set(re.findall(r"^  (--[a-z]+)", done.stdout, re.MULTILINE)) == expected
