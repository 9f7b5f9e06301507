"""The fingerprint stage: a file per stage or member of a registry, which changes with the code that it can load."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.data.dataset import DATASETS
from pipeline.saliency.method import METHODS
from stages import fingerprint
from tests.core.conftest import Write
from tests.core.test_code_hash import hash_of

ROOT = Path(__file__).parents[2]

TABLE = {
    "check_params": {"pipeline.data.datasets": "all", "pipeline.saliency.methods": "all"},
    "prepare": {"pipeline.data.datasets": "one"},
    "explain": {"pipeline.saliency.methods": "one"},
    "score": {},
    "aggregate": {},
}


@pytest.fixture
def changed(made_up: Write, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], set[str]]:
    """Write files, run the stage, and return what changed below data/code: what is new, gone or says something else."""
    monkeypatch.setattr(fingerprint, "STAGES", TABLE)
    monkeypatch.chdir(made_up({}))
    folder = Path("data/code")

    def written() -> dict[str, str]:
        fingerprint.main()
        return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*.json")}

    last = written()

    def run(files: Mapping[str, str]) -> set[str]:
        nonlocal last
        made_up(files)
        before, last = last, written()
        return {name for name in before.keys() | last.keys() if before.get(name) != last.get(name)}

    return run


Changed = Callable[[Mapping[str, str]], set[str]]


def test_a_stage_has_a_file_or_one_per_member(changed: Changed) -> None:
    files = sorted(file.as_posix() for file in Path("data").rglob("*") if file.is_file())
    assert files == [
        "data/code/aggregate.json",
        "data/code/check_params.json",
        "data/code/explain/grad_cam.json",
        "data/code/explain/lime.json",
        "data/code/prepare/digits.json",
        "data/code/prepare/shapes.json",
        "data/code/score.json",
    ]
    text = Path("data/code/score.json").read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=2, sort_keys=True) + "\n"
    assert content["pipeline.metrics.similarity"] == hash_of("x = 1")


def test_an_edit_for_people_changes_no_fingerprint(changed: Changed) -> None:
    lime = '"""LIME."""\n\nfrom ..surrogate import (\n    fit,  # ridge\n)\n\nx = 1\n"""One."""'
    score = 'def main():\n    """Score."""\n    from pipeline.metrics.similarity import x'
    assert changed({"pipeline/saliency/methods/lime.py": lime, "stages/score.py": score}) == set()


@pytest.mark.parametrize(
    ("file", "source", "stages"),
    [
        ("pipeline/saliency/methods/lime.py", "from ..surrogate import fit\nx = 2", {"explain/lime.json"}),
        ("pipeline/saliency/surrogate.py", "def fit(): return 1", {"explain/lime.json"}),
        ("pipeline/data/draw.py", "x = 2", {"prepare/shapes.json"}),
        ("pipeline/metrics/similarity.py", "x = 2", {"score.json"}),
        ("pipeline/results/published/cose.csv", "a,b\n1,3\n", {"aggregate.json"}),
        ("pipeline/results/published/new.csv", "a\n", {"aggregate.json"}),
        ("pipeline/data/unused.py", "x = 2", set()),
    ],
)
def test_a_change_reaches_the_stages_that_can_load_it(
    changed: Changed, file: str, source: str, stages: set[str]
) -> None:
    everything = {"check_params.json"} if "saliency" in file or "draw" in file else set()
    assert changed({file: source}) == stages | everything


def test_a_method_comes_and_goes_alone(changed: Changed) -> None:
    own = {"explain/noise.json", "check_params.json"}
    assert changed({"pipeline/saliency/methods/noise.py": "x = 1"}) == own
    Path("pipeline/saliency/methods/noise.py").unlink()
    assert changed({}) == own
    assert not Path("data/code/explain/noise.json").exists()


def test_an_error_leaves_the_old_fingerprints(changed: Changed) -> None:
    before = Path("data/code/score.json").read_text()
    with pytest.raises(UserError, match=r"^stages/aggregate\.py:1: "):
        changed({"stages/aggregate.py": "import runpy", "stages/score.py": "x = 1"})
    assert Path("data/code/score.json").read_text() == before


@pytest.mark.slow
def test_the_fingerprints_of_this_code(tmp_path: Path) -> None:
    for package in ("pipeline", "stages", "warm"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "stages.fingerprint"], cwd=tmp_path, check=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 4
    folder = tmp_path / "data/code"
    assert sorted(file.stem for file in (folder / "explain").iterdir()) == sorted(METHODS)
    assert sorted(file.stem for file in (folder / "prepare").iterdir()) == sorted(DATASETS)
    lime = json.loads((folder / "explain/lime.json").read_text())
    methods = [name for name in lime if name.startswith("pipeline.saliency.methods.")]
    assert methods == ["pipeline.saliency.methods.lime"]
    assert not [name for name in lime if name.startswith("pipeline.data.datasets.")]
    everything = json.loads((folder / "check_params.json").read_text())
    # How stages are started is in no fingerprint, though the package of stages imports it.
    assert not [name for file in folder.rglob("*.json") for name in json.loads(file.read_text()) if "warm" in name]
    assert {f"pipeline.data.datasets.{name}" for name in DATASETS} <= everything.keys()
    assert {f"pipeline.saliency.methods.{name}" for name in METHODS} <= everything.keys()


def test_the_stage_needs_no_library() -> None:
    heavy = "{'numpy', 'pandas', 'torch', 'pydantic'} & set(sys.modules)"
    script = f"import sys, stages.fingerprint; sys.exit(str({heavy}) if {heavy} else 0)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
