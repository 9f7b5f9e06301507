"""Which stages an edit of the code makes run again, on a real small run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.world import World, folder_of_pictures, small_params

pytestmark = pytest.mark.slow
HEAVY = {"train", "predict", "explain"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("reruns"), warm=True)
    made.set(small_params(made, folder_of_pictures(made.root / "pictures", per_class=10)))
    made.start_dvc()
    made.repro()
    return made


@contextmanager
def edited(world: World, *edits: tuple[str, str, str]) -> Iterator[None]:
    """Replace text in some files, or make files of what is new, and put all back afterwards."""
    before = {name: (world.root / name).read_text() if (world.root / name).exists() else None for name, _, _ in edits}
    try:
        for name, old, new in edits:
            path = world.root / name
            if before[name] is not None:
                assert re.search(old, path.read_text()), f"{name} has no {old}"
            path.write_text(re.sub(old, new, path.read_text(), count=1) if before[name] is not None else new)
        yield
    finally:
        for name, content in before.items():
            (world.root / name).unlink() if content is None else (world.root / name).write_text(content)


def stale(world: World) -> set[str]:
    """Return the stages whose own inputs have changed, once the fingerprints are up to date."""
    world.repro("fingerprint", "check_params")
    return {
        name
        for name, changes in json.loads(world.run("dvc", "status", "--json").stdout).items()
        if any("changed deps" in change for change in changes if isinstance(change, dict))
    }


NEW_TABLE = 'EXTRA = Table("extra", "A new table.", (ROW,), ("row",))\n\n\ndef scores_folder'
NEUTRAL = {
    "a comment": ("pipeline/models/classifier.py", r"class Classifier", "# Said by the way.\nclass Classifier"),
    "a docstring": ("pipeline/saliency/explain.py", r'"""Explain every row', '"""Explain each and every row'),
    "another layout": ("pipeline/core/randomness.py", r"sha256\(text\)", "sha256(\n        text,\n    )"),
    "a new table": ("pipeline/metrics/scores.py", r"def scores_folder", NEW_TABLE),
    "a new path": (
        "pipeline/results/summary.py",
        r"def summary_file",
        'def new_file() -> Path:\n    """Return a new path."""\n    return DATA / "new"\n\n\ndef summary_file',
    ),
    "a new metric": ("pipeline/metrics/surprise.py", "", '"""A new metric."""\n\nVALUE = 1\n'),
    "a new method": ("pipeline/saliency/methods/nothing.py", "", '"""A new method."""\n\nMETHOD = None\n'),
    "a message": ("stages/aggregate.py", r"print\(line", 'print("Please note:", line'),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_what_no_explanation_runs_reruns_none(world: World, name: str) -> None:
    with edited(world, NEUTRAL[name]):
        assert {stage.split("@")[0] for stage in stale(world)} & HEAVY == set()


def test_a_new_section_of_params_reruns_no_explanation(world: World) -> None:
    params = (world.root / "params.yaml").read_text()
    with edited(
        world,
        (
            "stages/check_params.py",
            r'    "statistics": StatisticsSettings,',
            '    "statistics": StatisticsSettings,\n    "extra": dict,',
        ),
        ("params.yaml", r"\Z", "extra: {value: 1}\n"),
    ):
        assert {stage.split("@")[0] for stage in stale(world)} & {"prepare", *HEAVY} == set()
    assert (world.root / "params.yaml").read_text() == params


CELL = "pictures-resnet_mini"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("pipeline/saliency/explain.py", r"clip\(-1, 1\)", "clip(-1, 2 - 1)", {f"{CELL}-grad_cam", f"{CELL}-lime"}),
        ("pipeline/saliency/methods/lime.py", r"kept\[order\], second", "kept[order], 1 * second", {f"{CELL}-lime"}),
        ("pipeline/saliency/cams.py", r"\.relu\(\)", ".relu().relu()", {f"{CELL}-grad_cam"}),
    ],
)
def test_a_changed_line_reruns_what_runs_it(world: World, file: str, old: str, new: str, expected: set[str]) -> None:
    with edited(world, (file, old, new)):
        assert {stage for stage in stale(world) if stage.split("@")[0] in HEAVY} == {
            f"explain@{one}" for one in expected
        }


def test_what_is_computed_again_is_the_same(world: World) -> None:
    maps = world.root / f"data/explanations/{CELL}/lime/maps.npy"
    before = maps.read_bytes()
    # An edit that no other test makes: DVC's run cache would know what came of it.
    with edited(world, ("pipeline/saliency/methods/lime.py", r"kept\[order\], second", "kept[order], 2 / 2 * second")):
        ran = world.repro()
        # The maps are the same, so nothing that hangs on them is made again; but a metric may explain again itself.
        assert set(ran) == {"fingerprint", "check_params", f"explain@{CELL}-lime", f"faithfulness@{CELL}-lime"}
    assert maps.read_bytes() == before
    assert Path(maps).stat().st_size > 0
