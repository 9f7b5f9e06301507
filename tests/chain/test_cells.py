"""Cells do not wait for each other: one that cannot be made leaves all others whole."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.world import ROOT, World, folder_of_pictures, small_params

pytestmark = pytest.mark.slow
PAPER = yaml.safe_load((ROOT / "profiles/paper.yaml").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with a dataset whose archive is missing, and a model whose weights are."""
    made = World(tmp_path_factory.mktemp("cells"), warm=True)
    params = small_params(made, folder_of_pictures(made.root / "pictures", per_class=10))
    params["datasets"]["cub200"] = PAPER["datasets"]["cub200"] | {"folder": "nowhere", "image_size": 32}
    params["training"]["cub200"] = {"epochs": 10}
    mini = params["models"]["resnet_mini"]
    params["models"]["placed_by_hand"] = mini | {"weights": {"file": "spark.pth"}}
    params["cells"] |= {
        "pictures-placed_by_hand": {"dataset": "pictures", "model": "placed_by_hand"},
        "cub200-resnet_mini": {"dataset": "cub200", "model": "resnet_mini"},
    }
    made.set(params)
    made.start_dvc()
    return made


CELL = "pictures-resnet_mini"


def test_a_score_runs_what_it_needs_and_no_more(world: World) -> None:
    ran = world.repro(f"score@{CELL}-grad_cam")
    assert sorted(ran) == sorted(
        [
            "fingerprint",
            "check_params",
            "prepare@pictures",
            f"train@{CELL}",
            f"predict@{CELL}",
            f"explain@{CELL}-grad_cam",
            f"score@{CELL}-grad_cam",
        ]
    )


def test_what_is_missing_stops_its_own_cells_alone(world: World) -> None:
    done = world.run("dvc", "repro", "--keep-going", check=False)
    assert done.returncode != 0
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert any(line.startswith("error: nowhere/") and "CUB_200_2011.tgz" in line for line in errors)
    assert any("models.placed_by_hand.weights.file: there is no file spark.pth" in line for line in errors)
    for method in ("grad_cam", "lime"):
        assert len(pd.read_parquet(world.root / f"data/scores/{CELL}/{method}/scores.parquet")) > 0
    scored = {path.name for path in Path(world.root / "data/scores").iterdir()}
    assert scored == {CELL}
    done = world.stage("aggregate")
    assert (
        "note: not computed, and without numbers in the tables: score@pictures-placed_by_hand-grad_cam, " in done.stderr
    )
    table = pd.read_csv(world.root / "metrics/cose.csv")
    assert set(table["missing"][table["cell"] != CELL]) == {"not computed"}
    assert table["missing"][table["cell"] == CELL].isna().all()
    assert (table["consistency_rows"][table["cell"] == CELL] > 0).all()
    assert pd.read_csv(world.root / "metrics/accuracy.csv")["model"].tolist() == ["resnet_mini"]
    assert set(pd.read_csv(world.root / "metrics/faithfulness.csv")["missing"].dropna()) == {"not computed"}


def test_a_name_that_is_unsafe_in_a_path_is_one_line(world: World) -> None:
    done = world.stage("predict", "--cell", "../x\ny", "--dataset", "pictures", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: found the cell name ")
    assert done.stderr.count("\n") == 1


def test_a_name_never_reaches_a_shell(tmp_path: Path) -> None:
    world = World(tmp_path)
    params, names = world.params, ("$(touch broken)", "'; touch broken; '")
    params["cells"] = dict.fromkeys(names, params["cells"]["digits-resnet_mini"])
    world.set(params)
    world.start_dvc()
    done = world.run("dvc", "repro", "--keep-going", check=False)
    assert done.returncode != 0
    assert "error: params.yaml: found the cell name '$(touch broken)'" in done.stderr + done.stdout
    assert not list(world.root.rglob("broken"))
