"""A preloaded interpreter: when there is one, which one, and when it ends."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.warm.conftest import ROOT, Workspace, eventually, is_alive, pytestmark  # noqa: F401
from warm import third_party
from warm.state import State, is_held

Make = Callable[[str], Workspace]


def memory(process: int) -> int:
    """Return the bytes that are a process's own."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def servers_called(name: bytes) -> list[int]:
    """Return the processes of preloaded interpreters of a name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name in (folder / "cmdline").read_bytes() and "stages" not in (folder / "comm").read_text():
                found.append(int(folder.name))
    return found


def names(folder: str) -> list[str]:
    return sorted(file.name for file in Path(folder).iterdir())


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def test_the_first_stage_is_cold_and_starts_one_for_the_next(workspace: Workspace) -> None:
    assert "no preloaded interpreter" in workspace.warm("status")
    assert not workspace.show()["warm"]
    server = workspace.loaded()
    assert f"{workspace.root}: process {server}, loaded in " in workspace.warm("status")
    assert workspace.show()["server"] == server
    assert [Path(file).suffix for file in workspace.files()] == [".json", ".sock"]
    assert workspace.sockets.stat().st_mode & 0o777 == 0o700
    workspace.warm("stop")
    assert not is_alive(server) and workspace.files() == []


def test_it_is_turned_off(workspace: Workspace) -> None:
    assert not workspace.show(variables={"COSE_WARM": "0"})["warm"]
    assert not workspace.sockets.exists()


def test_a_hundred_stages_and_eight_at_once_leave_nothing(workspace: Workspace) -> None:
    server = workspace.loaded()
    for _ in range(10):
        workspace.show()
    eventually(lambda: not children(server))
    files, descriptors, before = workspace.files(), names(f"/proc/{server}/fd"), memory(server)
    for _ in range(100):
        assert workspace.run("ends", "none").returncode == 0
    eight = [workspace.start("show", str(number)) for number in range(8)]
    for number, process in enumerate(eight):
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and f'"{number}"' in out and f'"server": {server}' in out
    eventually(lambda: not children(server))
    assert memory(server) - before < 1_000_000
    assert workspace.files() == files and names(f"/proc/{server}/fd") == descriptors
    assert "119 stages so far, 0 now" in workspace.warm("status")
    assert names(f"/proc/{server}/task") == [str(server)]


def test_eight_first_stages_at_once_start_one(workspace: Workspace) -> None:
    first = [workspace.start("show") for _ in range(8)]
    for process in first:
        process.communicate(timeout=60)
        assert process.returncode == 0
    server = workspace.loaded()
    name = workspace.files()[0].partition(".")[0].encode()
    eventually(lambda: servers_called(name) == [server])  # others find the lock taken, and end


def test_two_workspaces_do_not_meet(make: Make) -> None:
    one, other = make("one"), make("other")
    servers = one.loaded(), other.loaded()
    assert servers[0] != servers[1]
    assert [one.show()["server"], other.show()["server"]] == list(servers)
    assert one.warm("status").startswith(f"{one.root}: ") and other.warm("status").startswith(f"{other.root}: ")
    one.warm("stop")
    assert not is_alive(servers[0]) and other.show()["server"] == servers[1]


@pytest.mark.parametrize(
    "variables", [{"OMP_NUM_THREADS": "3"}, {"CUDA_VISIBLE_DEVICES": "1"}, {"PYTHONHASHSEED": "1"}, {"LC_ALL": "C"}]
)
def test_variables_that_matter_at_import_lead_to_another(workspace: Workspace, variables: dict[str, str]) -> None:
    server = workspace.loaded()
    assert not workspace.show(variables=variables)["warm"]
    assert workspace.loaded(variables) != server
    assert workspace.show(variables={"COSE_THREADS": "3", "COLUMNS": "70"})["server"] == server  # read when they matter


@pytest.mark.parametrize("what", ["limit", "priority", "cores"])
def test_what_a_process_takes_over_from_its_parent_leads_to_another(workspace: Workspace, what: str) -> None:
    limit, cores = resource.getrlimit(resource.RLIMIT_NOFILE), os.sched_getaffinity(0)
    if what == "cores" and len(cores) == 1:
        pytest.skip("there is one core")
    prepare: dict[str, Callable[[], Any]] = {
        "limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit[0] - 1, limit[1])),
        "priority": lambda: os.nice(1),
        "cores": lambda: os.sched_setaffinity(0, {min(cores)}),
    }
    server = workspace.loaded()
    assert not workspace.show(preexec_fn=prepare[what])["warm"]
    assert workspace.show()["server"] == server


def test_it_ends_without_work(workspace: Workspace) -> None:
    workspace.warm("status")  # makes the folder
    command = [sys.executable, "-m", "warm.server", "name", "--idle", "0.5"]
    with subprocess.Popen(command, cwd=workspace.root, env=workspace.environment) as server:
        eventually(lambda: "name.sock" in workspace.files())
        assert server.wait(10) == 0
    assert workspace.files() == []


def test_it_does_not_end_while_a_stage_runs(workspace: Workspace) -> None:
    workspace.show(variables={"COSE_WARM": "0"})
    code = "from warm import place; print(place.folder(), place.name())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workspace.root, env=workspace.environment, capture_output=True, text=True
    )
    command = [sys.executable, "-m", "warm.server", done.stdout.split()[1], "--idle", "2"]
    with subprocess.Popen(command, cwd=workspace.root, env=workspace.environment) as server:
        eventually(lambda: any(file.endswith(".sock") for file in workspace.files()))
        with workspace.start("sleeps", "4") as process:
            assert process.wait(10) == 5
            assert server.poll() is None
        assert server.wait(10) == 0


@pytest.mark.parametrize("change", ["lock", "package", "module", "code"])
def test_it_ends_when_what_it_has_loaded_changes(workspace: Workspace, tmp_path: Path, change: str) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "loaded.py").write_text("X = 1\n")
    (workspace.root / "stages/uses.py").write_text("import loaded\n\nprint(loaded.X)\n")
    workspace.environment["PYTHONPATH"] = str(packages)
    server = workspace.loaded()
    assert workspace.run("uses").stdout == "1\n"
    match change:
        case "lock":
            (workspace.root / "requirements.lock").write_text("numpy==2\n")
        case "package":
            (packages / "other-1.0.dist-info").mkdir()
        case "module":
            (packages / "loaded.py").write_text("X = 22\n")
        case "code":
            with (workspace.root / "warm/wire.py").open("a") as file:
                file.write("X = 1\n")
    eventually(lambda: not is_alive(server), 8)
    assert workspace.run("uses").stdout == ("22\n" if change == "module" else "1\n")
    assert workspace.loaded() != server


def test_it_ends_when_the_workspace_is_gone(workspace: Workspace) -> None:
    server = workspace.loaded()
    shutil.rmtree(workspace.root)
    eventually(lambda: not is_alive(server), 10)
    assert workspace.files() == []


@pytest.mark.parametrize("by_hand", [True, False])
def test_what_a_killed_one_leaves_is_no_error(workspace: Workspace, by_hand: bool) -> None:
    server = workspace.loaded()
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not is_alive(server))
    assert len(workspace.files()) == 2
    if by_hand:
        workspace.warm("stop")
        assert workspace.files() == []
    done = workspace.run("show")
    assert done.returncode == 0 and done.stderr == "" and '"warm": false' in done.stdout
    assert workspace.loaded() != server
    assert len(workspace.files()) == 2


def test_one_that_does_not_answer_is_not_waited_for(workspace: Workspace) -> None:
    server = workspace.loaded()
    os.kill(server, signal.SIGSTOP)
    before = time.monotonic()
    assert not workspace.show()["warm"]
    assert time.monotonic() - before < 8
    os.kill(server, signal.SIGCONT)
    # What it finds in its queue when it wakes has been given up, and runs nothing.
    assert eventually(lambda: workspace.show()["server"]) == server
    eventually(lambda: not children(server))


def test_one_that_would_have_threads_does_not_serve_and_says_why(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "spins.py").write_text(
        "import threading, time\n\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    (workspace.root / "pipeline/uses.py").write_text("def late():\n    from spins import threading\n")
    workspace.environment["PYTHONPATH"] = str(tmp_path)
    workspace.show()
    status = eventually(lambda: "could not" in workspace.warm("status") and workspace.warm("status"))
    assert status == (
        f"{workspace.root}: could not be loaded: importing spins starts threads: found 2; "
        "allowed: one, because a fork takes along no other\n"
    )
    (said,) = workspace.sockets.iterdir()
    before = json.loads(said.read_text())["process"]
    assert not workspace.show()["warm"]  # and it is not tried again
    time.sleep(0.5)
    assert json.loads(said.read_text())["process"] == before and len(workspace.files()) == 1
    (workspace.root / "pipeline/uses.py").unlink()
    workspace.warm("stop")
    workspace.loaded()


def test_one_that_dies_while_it_loads_is_not_tried_again_at_once(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("import os, signal\n\nos.kill(os.getpid(), signal.SIGKILL)\n")
    (workspace.root / "pipeline/uses.py").write_text("import dies\n")
    workspace.environment["PYTHONPATH"] = str(tmp_path)
    workspace.show()
    eventually(lambda: "could not be loaded: it died" in workspace.warm("status"))
    (tmp_path / "dies.py").unlink()
    assert not workspace.show()["warm"]
    time.sleep(0.5)
    assert "could not be loaded: it died" in workspace.warm("status")


def test_one_that_fails_while_it_serves_says_why(workspace: Workspace) -> None:
    with (workspace.root / "warm/server.py").open("r+") as file:
        code = file.read()
        assert 'check_fit("a stage")' in code
        file.seek(0)
        file.write(code.replace('check_fit("a stage")', 'raise UnfitError("a stage is too much")'))
    workspace.show()
    eventually(lambda: "loaded in" in workspace.warm("status"))

    def says_why() -> bool:
        assert not workspace.show()["warm"]  # on a slow machine, one may give up before it is served
        return workspace.warm("status") == f"{workspace.root}: could not be loaded: a stage is too much\n"

    eventually(says_why)


@pytest.mark.parametrize("mode", [0o755, 0o770, None])
def test_a_folder_that_others_can_enter_is_not_used(workspace: Workspace, mode: int | None) -> None:
    if mode is None:
        workspace.sockets.symlink_to(workspace.root)
    else:
        workspace.sockets.mkdir()
        workspace.sockets.chmod(mode)
    done = workspace.run("show")
    assert done.returncode == 0 and done.stderr == "" and '"warm": false' in done.stdout
    status = subprocess.run(
        [sys.executable, "-m", "warm", "status"],
        cwd=workspace.root,
        env=workspace.environment,
        capture_output=True,
        text=True,
    )
    assert status.returncode == 1 and status.stderr.startswith(f"error: {workspace.sockets}: found a folder of others")
    if mode is None:
        workspace.sockets.unlink()
    else:
        workspace.sockets.chmod(0o700)


@pytest.mark.parametrize("side", ["in", "not in"])
def test_another_user_is_refused(workspace: Workspace, side: str) -> None:
    # The kernel says who is at the other end; here it says somebody else, to the server or to its clients.
    with (workspace.root / "warm/wire.py").open("a") as file:
        file.write(f"\n\nimport sys\nif 'warm.server' {side} sys.orig_argv:\n    user_of = lambda connection: 12345\n")
    workspace.show()
    eventually(lambda: "loaded in" in workspace.warm("status"))
    for _ in range(3):
        assert not workspace.show()["warm"]
    assert "0 stages so far" in workspace.warm("status") or side == "not in"


def test_the_lock_is_one_processes_alone(tmp_path: Path) -> None:
    first, second = State(str(tmp_path / "a.json")), State(str(tmp_path / "a.json"))
    assert not is_held(first.file)
    assert first.take() and is_held(first.file) and not second.take()
    first.say(state="ready", word="long enough")
    first.say(state="ready")
    assert Path(first.file).read_text().strip() == '{"state": "ready"}'
    first.remove()
    assert not is_held(first.file) and second.take()
    second.remove()


def test_what_is_loaded_is_what_the_code_imports_of_others() -> None:
    found = third_party.imported(ROOT)
    tops = {module.split(".")[0] for module, _ in found}
    assert {"torch", "timm", "great_expectations", "pandas", "skimage", "sklearn", "pydantic", "PIL"} <= tops
    assert not tops & {"pipeline", "stages", "warm", "runner", "tests", "dvc"}
    assert ("pydantic", "BaseModel") in found and ("torch", "") in found


def test_what_is_loaded_leaves_broken_code_to_its_stage(tmp_path: Path) -> None:
    for folder in third_party.FOLDERS:
        (tmp_path / folder).mkdir()
    (tmp_path / "stages/broken.py").write_text("import (\n")
    (tmp_path / "stages/good.py").write_text(
        "import json\nfrom . import x\nfrom stages import y\nfrom os.path import z\n"
    )
    assert third_party.imported(tmp_path) == [("json", ""), ("os.path", "z")]
    third_party.load("there_is_no_such_module", "")
    third_party.load("os.path", "there_is_no_such_name")


def test_it_imports_nothing_of_the_project() -> None:
    for file in (ROOT / "warm").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[Any] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "warm"}, file
