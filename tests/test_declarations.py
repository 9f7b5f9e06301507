"""Every stage declares to DVC all the code it imports, all the params and all the files it reads.

What is not declared does not make a stage run again. Each stage runs in a process of its own that notes every file
of the project that it opens and every key of params.yaml that it asks for; dvc.yaml has to cover them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.publishers import cifar10
from tests.world import World, folder_of_pictures, small_params

WATCH = """
import json, os, runpy, sys
root = os.getcwd() + os.sep
read, written, keys = set(), set(), set()

def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if path.startswith(root) and not os.path.isdir(path):
            (written if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else read).add(path[len(root):])
    elif event == "cose.params":
        keys.add(arguments[0])

sys.addaudithook(note)
report, module, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = module
try:
    runpy.run_module("stages." + module, run_name="__main__", alter_sys=True)
finally:
    code = {os.path.relpath(m.__file__, root) for m in list(sys.modules.values())
            if getattr(m, "__file__", None) and os.path.isfile(m.__file__)
            and os.path.abspath(m.__file__).startswith(root)}
    code.add(f"stages/{module}.py")
    json.dump({"read": sorted(read), "keys": sorted(keys), "code": sorted(code)}, open(report, "w"))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("declarations"))
    params = small_params(made, folder_of_pictures(made.root / "pictures", per_class=10))
    # A dataset in archives, whose models start from others' weights and train a head alone, reads more.
    params["datasets"]["cifar10"] = {
        "loader": "cifar10", "source": "requirements.lock", "folder": "published", "image_size": 32,
        "images": cifar10(made.root / "published"), "split": {"validation": 0.34, "test": "official"},
    }  # fmt: skip
    params["training"]["cifar10"] = params["training"]["pictures"] | {"head": [8], "backbone": "frozen"}
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


def test_every_stage_declares_what_it_reads(world: World) -> None:
    problems: list[str] = []
    unused: dict[str, set[str]] = {}
    for stage in declared_stages(world):
        module, *arguments = stage["cmd"].removeprefix("python -m stages.").split()
        world.run(sys.executable, "watch.py", "report.json", module, *arguments)
        report = json.loads((world.root / "report.json").read_text())
        code = set(report["code"]) - {"watch.py"}
        # What a publisher gives is held by checksums and counts, and not watched.
        files = {
            path for path in report["read"]
            if not path.endswith((".py", ".pyc")) and path not in {"report.json", "watch.py"}
            and not path.startswith("published/")
            and not covers(stage["outs"], path) and ".tmp/" not in path and path != "params.yaml"
        }  # fmt: skip
        whole_file = "params.yaml" in stage["files"]
        for path in sorted(code | files):
            if not covers(stage["files"], path):
                problems.append(f"{stage['name']} reads {path}, which it does not declare")
        for key in report["keys"]:
            if not whole_file and not any(key == one or key.startswith(f"{one}.") for one in stage["keys"]):
                problems.append(f"{stage['name']} reads the parameter {key}, which it does not declare")
        assert code, "nothing was noted"
        idle = {path for path in stage["files"] if path.endswith(".py") and path not in code}
        kind = stage["name"].split("@")[0]
        unused[kind] = unused.get(kind, idle) & idle
    assert not problems, "\n".join(problems)
    # What no cell of a kind imports should not make it run again.
    by_some_methods = {"pipeline/attribution.py"}
    for kind, idle in unused.items():
        assert idle <= by_some_methods, f"{kind} declares code that it never imports: {sorted(idle)}"
