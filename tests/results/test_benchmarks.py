"""The speed program: it measures what it promises, and bad input is refused before anything is measured."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.world import ROOT, World

PROMISED = {
    "model",
    "image_size",
    "method",
    "way",
    "ms_per_map",
    "ratio",
    "floor_ms",
    "efficiency_kernel",
    "efficiency_stage",
    "max_abs_diff",
    "mb_per_1000_maps",
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "benchmarks.md", tmp_path / "docs" / "benchmarks.md")
    return made


@pytest.mark.slow
def test_a_small_measurement(world: World) -> None:
    world.run(
        sys.executable,
        "-m",
        "benchmarks.speed",
        "--models",
        "resnet_mini",
        "--image-size",
        "32",
        "--images",
        "2",
        "--methods",
        "grad_cam",
        "ablation_cam",
        "integrated_gradients",
        "smooth_grad",
        "opti_cam",
        "--scale",
        "0.5",
        "--seconds",
        "0.1",
        "--repeats",
        "1",
    )
    table = pd.read_csv(world.root / "metrics" / "benchmark.csv")
    assert set(table.columns) >= PROMISED
    methods = table[table["floor_ms"].notna()]
    ways = methods.groupby("method")["way"].apply(set)
    assert ways.pop("opti_cam") == {"ours"}, "no library has it"
    assert len(ways) == 4
    assert (ways == {"per_image", "library", "ours"}).all()
    ours = methods[methods["way"] == "ours"].set_index("method")
    assert (ours[["efficiency_kernel", "efficiency_stage", "mb_per_1000_maps"]] > 0).all(axis=None)
    assert (ours["ratio"].drop("opti_cam") > 1).all(), "slower than one image at a time with a figure each"
    # What is compared must be the same maps, row by row.
    assert (methods["mean_abs_diff"].dropna() < 1e-3).all()
    page = (world.root / "docs" / "benchmarks.md").read_text()
    assert "**resnet_mini at 32 pixels**" in page
    assert "\n| opti_cam |  |  | " in page
    assert "resnet50" not in page.split("<!-- speed -->")[1].split("<!-- end -->")[0]


@pytest.mark.slow
def test_a_small_measurement_of_faithfulness(world: World) -> None:
    world.run(
        sys.executable,
        "-m",
        "benchmarks.faithfulness",
        "--models",
        "resnet_mini",
        "--image-size",
        "32",
        "--images",
        "2",
        "--few",
        "2",
        "--repeats",
        "1",
    )
    table = pd.read_csv(world.root / "metrics" / "benchmark_faithfulness.csv").set_index("family")
    assert set(table.index) == {"masking", "insertion", "deletion", "ROAD", "infidelity"}
    assert (table[["ms_per_map", "floor_ms", "efficiency"]] > 0).all(axis=None)
    assert table["forward"].to_dict() == {"masking": 2, "insertion": 29, "deletion": 29, "ROAD": 8, "infidelity": 29}
    assert (table["max_abs_diff"][["insertion", "deletion"]] < 1e-4).all(), "plain loops say the same"
    page = (world.root / "docs" / "benchmarks.md").read_text()
    assert "**resnet_mini at 32 pixels**" in page.split("<!-- faithfulness -->")[1].split("<!-- end -->")[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "nope"], "--models: found 'nope'; allowed: efficientnet_lite0, "),
        (["--images", "51"], "--images: found 51; allowed: 1 to 50"),
    ],
)
def test_bad_input_is_refused(world: World, arguments: list[str], message: str) -> None:
    done = world.run(sys.executable, "-m", "benchmarks.speed", *arguments, check=False)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not (world.root / "metrics").exists()


@pytest.mark.slow
def test_a_revision_that_git_does_not_know_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.against", "no-such"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "error: revision: found 'no-such', which git does not know; allowed: a commit\n"


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the project's history")
def test_a_revision_against_itself() -> None:
    arguments = ("--image-size", "32", "--images", "2", "--methods", "grad_cam", "--rounds", "1")
    command = [sys.executable, "-m", "benchmarks.against", "HEAD", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["grad_cam", "score"]
    assert re.search(
        r"score +\d+\.\d{3} \(\d+\.\d{3} to \d+\.\d{3}\); [\d.e+]+ ms here, [\d.e+]+ ms there", done.stdout
    )
