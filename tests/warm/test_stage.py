"""A stage in a copy of a preloaded interpreter finds, does and ends as one that Python starts."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from tests.warm.conftest import Workspace, eventually, is_alive, pytestmark  # noqa: F401

OWN = {"warm", "server", "process"}
"""What differs between a warm and a cold start."""


def both(workspace: Workspace, *arguments: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    workspace.loaded(options.get("variables"))
    warm = workspace.show(*arguments, **options)
    variables = options.pop("variables", {}) | {"COSE_WARM": "0"}
    cold = workspace.show(*arguments, variables=variables, **options)
    assert warm["warm"] and not cold["warm"]
    assert cold["environment"].pop("COSE_WARM") == "0"
    return warm, cold


def test_it_finds_what_a_cold_one_finds(workspace: Workspace, tmp_path: Path) -> None:
    warm, cold = both(
        workspace, "--cell", "größe", "", input="two\r\nlines", variables={"WORD": "a\udcffb", "EMPTY": ""}
    )
    assert warm["name"] == "__main__" and warm["read"] == "two\r\nlines"
    assert warm["argv"][1:] == ["--cell", "größe", ""]
    # Cold, `warm.client` has been imported by the package of stages; warm, too, and nothing else of it.
    assert warm["own"] == cold["own"]
    assert {k: v for k, v in warm.items() if k not in OWN} == {k: v for k, v in cold.items() if k not in OWN}


def test_it_is_in_the_clients_folder_with_its_umask_and_signals(workspace: Workspace, tmp_path: Path) -> None:
    def prepare() -> None:
        os.umask(0o027)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

    (tmp_path / "elsewhere").mkdir()
    options: dict[str, Any] = {
        "cwd": tmp_path / "elsewhere",
        "variables": {"PYTHONPATH": str(workspace.root)},
        "preexec_fn": prepare,
    }
    warm, cold = both(workspace, **options)
    assert warm["umask"] == 0o027 and warm["directory"] == str(tmp_path / "elsewhere")
    assert warm["blocked"] == [signal.SIGUSR1] and warm["signals"][str(int(signal.SIGHUP))] == str(signal.SIG_IGN)
    assert {k: v for k, v in warm.items() if k not in OWN} == {k: v for k, v in cold.items() if k not in OWN}
    # The preloaded interpreter was started by such a stage; one that ignores and blocks nothing finds nothing of that.
    del options["preexec_fn"]
    warm, cold = both(workspace, **options)
    assert warm["blocked"] == []
    assert {k: v for k, v in warm.items() if k not in OWN} == {k: v for k, v in cold.items() if k not in OWN}


@pytest.mark.parametrize("variables", [{"PYTHONUNBUFFERED": "1"}, {"PYTHONIOENCODING": "latin-1:replace"}])
def test_its_streams_are_made_as_pythons(workspace: Workspace, variables: dict[str, str]) -> None:
    warm, cold = both(workspace, variables=variables)
    assert warm["streams"] == cold["streams"]


def test_closed_streams_are_closed(workspace: Workspace) -> None:
    warm, cold = both(workspace, preexec_fn=lambda: (os.close(0), os.close(2)), stdin=None, stderr=None)
    assert warm["streams"][0] is None and warm["streams"][2] is None
    assert warm["streams"] == cold["streams"]


def test_at_a_terminal(workspace: Workspace) -> None:
    code = (
        "import os, sys\nprint(sys.stdout.isatty(), os.get_terminal_size().columns, flush=True)\n"
        "print('hello', input('name? '), file=sys.stderr)\n"
    )
    (workspace.root / "stages/asks.py").write_text(code)
    workspace.loaded()
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 77, 0, 0))
    with workspace.start("asks", stdin=there, stdout=there, stderr=there) as process:
        os.close(there)
        said = b""
        while b"name? " not in said:
            said += os.read(here, 100)
        os.write(here, b"you\n")
        while b"hello you" not in said:
            said += os.read(here, 100)
        assert process.wait(10) == 0
    assert b"True 77" in said


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("none",), 0, ""),
        (("code", "0"), 0, ""),
        (("code", "3"), 3, ""),
        (("code", "256"), 0, ""),
        (("code", "-1"), 255, ""),
        (("text", "error: no"), 1, "error: no\n"),
        (("at once", "7"), 7, ""),
        (("signal", str(int(signal.SIGSEGV))), -signal.SIGSEGV, ""),
        (("signal", str(int(signal.SIGKILL))), -signal.SIGKILL, ""),
        (("signal", str(int(signal.SIGTERM))), -signal.SIGTERM, ""),
    ],
)
def test_it_ends_as_a_cold_one(workspace: Workspace, arguments: tuple[str, ...], code: int, error: str) -> None:
    workspace.loaded()
    warm = workspace.run_warm("ends", *arguments)
    assert (warm.returncode, warm.stdout, warm.stderr) == (code, "", error)
    cold = workspace.run("ends", *arguments, variables={"COSE_WARM": "0"})
    assert (cold.returncode, cold.stdout, cold.stderr) == (code, "", error)


def test_an_exception_shows_the_stages_own_frames(workspace: Workspace) -> None:
    workspace.loaded()
    warm = workspace.run_warm("ends", "raise")
    assert warm.returncode == 1 and warm.stderr.startswith("Traceback (most recent call last):\n")
    assert "stages/ends.py" in warm.stderr and "/warm/" not in warm.stderr
    assert warm.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_signal_to_the_client_ends_the_child_and_its_children(workspace: Workspace, number: int) -> None:
    workspace.loaded()
    with workspace.start("sleeps") as process:
        assert process.stdout is not None
        child, grandchild = map(int, process.stdout.readline().split())
        assert child != process.pid and is_alive(child) and is_alive(grandchild)
        process.send_signal(number)
        assert process.wait(10) == -number
        eventually(lambda: not is_alive(child) and not is_alive(grandchild), 2)


def test_a_stopped_client_stops_the_child(workspace: Workspace) -> None:
    workspace.loaded()
    # In a session of its own, where the kernel lets SIGTSTP stop it, as a shell's jobs are.
    with workspace.start("sleeps", process_group=0) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[0])

        def state(of: int) -> str:
            return Path(f"/proc/{of}/stat").read_text().rpartition(")")[2].split()[0]

        process.send_signal(signal.SIGTSTP)
        eventually(lambda: state(process.pid) == "T" and state(child) == "T", 5)
        process.send_signal(signal.SIGCONT)
        eventually(lambda: state(process.pid) == "S" and state(child) == "S", 5)
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_preloaded_interpreter_fails_nothing_that_runs(workspace: Workspace, number: int) -> None:
    server = workspace.loaded()
    with workspace.start("sleeps", "1") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[0])
        os.kill(server, number)
        eventually(lambda: not is_alive(server), 5)
        assert is_alive(child)
        assert process.stdout.read() == "slept\n"
        assert process.wait(10) == 5
    assert len(workspace.files()) == (2 if number == signal.SIGKILL else 0)


def test_without_its_keeper_a_stage_does_not_go_on(workspace: Workspace) -> None:
    workspace.loaded()
    with workspace.start("sleeps") as process:
        assert process.stdout is not None and process.stderr is not None
        child = int(process.stdout.readline().split()[0])
        keeper = int(Path(f"/proc/{child}/stat").read_text().split()[3])
        os.kill(keeper, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert process.stderr.readline() == "error: the stage and its keeper were killed\n"
        eventually(lambda: not is_alive(child), 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_at_any_moment_ends_the_stage(workspace: Workspace, tmp_path: Path, number: int) -> None:
    workspace.loaded()
    code = "import os, sys, time\n\nopen(sys.argv[1], 'a').write(f'{os.getpid()}\\n')\ntime.sleep(30)\n"
    (workspace.root / "stages/late.py").write_text(code)
    begun = tmp_path / "begun"
    begun.touch()
    for milliseconds in range(0, 120, 4):
        with workspace.start("late", str(begun)) as process:
            time.sleep(milliseconds / 1000)
            process.send_signal(number)
            process.communicate(timeout=10)
            assert process.returncode in (-number, 1)  # 1: Python was told while it was starting
    eventually(lambda: not any(is_alive(int(line)) for line in begun.read_text().split()), 2)
    assert begun.read_text(), "no stage had begun"


def test_what_fails_before_the_stage_begins_is_a_cold_start(workspace: Workspace) -> None:
    workspace.loaded()
    with (workspace.root / "warm/child.py").open("a") as file:
        file.write("\n\ndef prepare(request):\n    raise RuntimeError\n")
    workspace.show()
    eventually(lambda: "loaded in" in workspace.warm("status"))
    done = workspace.run("show")
    assert done.returncode == 0 and '"warm": false' in done.stdout and done.stderr == ""


def test_an_edit_takes_effect_at_once(workspace: Workspace) -> None:
    (workspace.root / "pipeline/__init__.py").write_text("")
    (workspace.root / "pipeline/value.py").write_text("VALUE = 1\n")
    (workspace.root / "stages/value.py").write_text("from pipeline.value import VALUE\n\nprint(VALUE)\n")
    server = workspace.loaded()
    for number in range(5):
        (workspace.root / "pipeline/value.py").write_text(f"VALUE = {10**number}\n")
        assert workspace.run_warm("value").stdout == f"{10**number}\n"
    (workspace.root / "stages/new.py").write_text("import value2\n\nprint(value2.X)\n")
    (workspace.root / "value2.py").write_text("X = 'new'\n")
    assert workspace.run_warm("new").stdout == "new\n"
    assert workspace.show()["server"] == server


def test_a_stage_that_is_not_there(workspace: Workspace) -> None:
    workspace.loaded()
    cold = workspace.run("missing", variables={"COSE_WARM": "0"})
    warm = workspace.run_warm("missing")
    assert warm.returncode == cold.returncode == 1
    assert "No module named stages.missing" in warm.stderr


def test_children_draw_different_random_numbers(workspace: Workspace) -> None:
    code = "import random\n\nimport numpy as np\n\nprint(random.random(), np.random.random())\n"
    (workspace.root / "stages/draws.py").write_text(code)
    workspace.loaded()
    drawn = [workspace.run_warm("draws").stdout.split() for _ in range(3)]
    assert len({one[0] for one in drawn}) == len({one[1] for one in drawn}) == 3


def test_what_is_printed_is_written_before_it_ends(workspace: Workspace) -> None:
    code = "import atexit, sys, threading, time\n\natexit.register(print, 'last')\n"
    code += "threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()\nprint('first')\n"
    (workspace.root / "stages/threads.py").write_text(code)
    workspace.loaded()
    assert workspace.run_warm("threads").stdout == "first\nthread\nlast\n"


def test_other_uses_of_python_are_left_alone(workspace: Workspace) -> None:
    workspace.loaded()
    code = "import stages, stages.show"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=workspace.root,
        env=workspace.environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert '"warm": false' in done.stdout
