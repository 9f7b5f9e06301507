"""Every stage declares to DVC all the code it runs, all the params and all the files it reads.

What is not declared does not make a stage run again. Each stage runs in a process of its own that notes every file of
the project that it opens, every key of params.yaml that it asks for, and every function of the project that it calls;
dvc.yaml has to cover the files and keys, and the stage's fingerprint the functions.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.core.fingerprint import LAUNCHER
from tests.publishers import cifar10
from tests.world import World, every_cell, folder_of_pictures, small_params

pytestmark = pytest.mark.slow

WATCH = """
import json, os, runpy, sys, threading
from pathlib import Path

from warm import third_party

root = os.getcwd() + os.sep
read, keys, called = set(), set(), set()

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if path.startswith(root) and not writes and os.path.isfile(path):
            read.add(path[len(root):])
    elif event == "cose.params":
        keys.add(arguments[0])

def count(frame, event, argument):
    called.add(frame.f_code.co_filename)  # and nothing is returned, so that lines are not traced

def watch(number, module, *arguments):
    sys.addaudithook(note)
    sys.argv = [module, *arguments]
    threading.settrace(count)
    sys.settrace(count)
    try:
        runpy.run_module("stages." + module, run_name="__main__", alter_sys=True)
    finally:
        sys.settrace(None)
        own = (path for path in called if not path.startswith("<") and os.path.abspath(path).startswith(root))
        code = {os.path.relpath(path, root) for path in own}
        report = {"read": sorted(read), "keys": sorted(keys), "code": sorted(code)}
        Path(f"report_{number}.json").write_text(json.dumps(report))

# Others' packages are loaded once and for all; nothing of the project is, but what launches its stages.
for module, name in third_party.imported(Path(root)):
    third_party.load(module, name)
for number, command in enumerate(json.loads(Path("commands.json").read_text())):
    child = os.fork()
    if child == 0:
        watch(number, *command)
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{command} failed")
"""

EDGES = ("xmin", "ymin", "xmax", "ymax")
OWN = {"watch.py", "params.yaml"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("declarations"))
    pictures = folder_of_pictures(made.root / "pictures", per_class=10)
    for picture in pictures.glob("*/*.*g"):
        edges = "".join(f"<{edge}>{at}</{edge}>" for edge, at in zip(EDGES, (5, 4, 30, 25), strict=True))
        box = f"<annotation><object><bndbox>{edges}</bndbox></object></annotation>"
        picture.with_suffix(".xml").write_text(box)
    params = small_params(made, pictures)
    params["datasets"]["pictures"]["boxes"] = str(pictures)
    # A dataset in archives, whose models start from others' weights and train a head alone, reads more.
    params["datasets"]["cifar10"] = {
        "loader": "cifar10",
        "source": "requirements.lock",
        "folder": "published",
        "image_size": 32,
        "images": cifar10(made.root / "published"),
        "split": {"validation": 0.34, "test": "official"},
    }
    params["training"]["cifar10"] = params["training"]["pictures"] | {"head": [8], "backbone": "frozen"}
    params["cells"] = every_cell(params)
    params["saliency"] = {
        name: made.params["saliency"][name] | {"images": "all"} for name in ("grad_cam", "integrated_gradients")
    }
    made.set(params)
    made.start_dvc()
    (made.root / "watch.py").write_text(WATCH)
    return made


def declared_stages(world: World) -> Iterator[dict[str, Any]]:
    """Yield name, command, deps and params of every stage, as DVC resolves them, in an order that they can run in."""
    script = """
import json
from dvc.repo import Repo
import networkx
repo = Repo()
stages = []
for stage in reversed(list(networkx.topological_sort(repo.index.graph))):
    files = [dep.def_path for dep in stage.deps if not hasattr(dep, "params")]
    keys = [key for dep in stage.deps if hasattr(dep, "params") for key in dep.params]
    stages.append({"name": stage.addressing, "cmd": stage.cmd, "files": files, "keys": keys,
                   "outs": [out.def_path for out in stage.outs]})
print(json.dumps(stages))
"""
    yield from json.loads(world.run(sys.executable, "-c", script).stdout.splitlines()[-1])


def covers(declared: list[str], path: str) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in declared)


def module_name(path: str) -> str:
    return re.sub(r"(/__init__)?\.py$", "", path).replace("/", ".")


def test_every_stage_declares_what_it_reads_and_runs(world: World) -> None:
    problems: list[str] = []
    stages = list(declared_stages(world))
    commands = [shlex.split(stage["cmd"].removeprefix("python -m stages.")) for stage in stages]
    (world.root / "commands.json").write_text(json.dumps(commands))
    world.run(sys.executable, "watch.py")
    for number, (stage, (module, *_)) in enumerate(zip(stages, commands, strict=True)):
        report = json.loads((world.root / f"report_{number}.json").read_text())
        fingerprint = next((file for file in stage["files"] if file.startswith("data/code/")), None)
        known = set() if fingerprint is None else set(json.loads((world.root / fingerprint).read_text()))
        # What a publisher gives is held by checksums and counts, and not watched.
        files = {
            path
            for path in report["read"]
            if not path.endswith((".py", ".pyc"))
            and path not in OWN
            and not path.startswith("published/")
            and not covers(stage["outs"], path)
            and ".tmp/" not in path
        }
        problems += [
            f"{stage['name']} reads {path}, which it does not declare"
            for path in sorted(files - known)
            if not covers(stage["files"], path)
        ]
        if "params.yaml" not in stage["files"]:
            problems += [
                f"{stage['name']} reads the parameter {key}, which it does not declare"
                for key in report["keys"]
                if not any(key == one or key.startswith(f"{one}.") for one in stage["keys"])
            ]
        code = {path for path in report["code"] if not path.startswith(f"{LAUNCHER}/")} - {"watch.py"}
        assert f"stages/{module}.py" in code, "nothing was noted"
        if module != "fingerprint":
            problems += [
                f"{stage['name']} runs {path}, which {fingerprint} does not have"
                for path in sorted(code)
                if module_name(path) not in known
            ]
    assert not problems, "\n".join(problems)
