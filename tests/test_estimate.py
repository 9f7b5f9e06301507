"""What a run is said to take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.estimate import SHARE, Speed, bytes_per_map, minutes, prepared, time_evaluations
from pipeline.models import Classifier
from pipeline.params import PlanSettings
from pipeline.plan import draw_plan, rows_per_image
from pipeline.registry import METHODS, Cost
from pipeline.transforms import TRANSFORMS
from tests.conftest import SIDE, small_convnet
from tests.settings import SMALL
from tests.world import World


@pytest.mark.parametrize("names", [tuple(TRANSFORMS), ("flip_lr", "rotate"), ("blur",)])
@pytest.mark.parametrize("checkpoints", [(), (10, 50)])
def test_rows_are_those_of_the_plan(names: tuple[str, ...], checkpoints: tuple[int, ...]) -> None:
    settings = PlanSettings(images=3, magnitudes=2, transforms=names, checkpoints=checkpoints)
    splits = pd.DataFrame({"image": range(5), "label": 0, "split": "test"})
    assert 3 * rows_per_image(settings, SIDE) == len(draw_plan(splits, settings, SIDE, 0, "test"))


def test_minutes_by_hand() -> None:
    # 600 maps of 10 forward passes at 2 ms and 5 gradients at 8 ms are 36 s of evaluations.
    assert minutes(600, Cost(forward=10, gradient=5), Speed(2, 8)) == pytest.approx(36 / 60 / SHARE)


@pytest.mark.parametrize("name", METHODS)
def test_disk_is_what_a_map_takes(name: str, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    method, settings = METHODS[name], SMALL[name]
    maps = method.explain(convnet, images[:1], targets[:1], settings, [0]).numpy().astype(method.storage)
    assert bytes_per_map(method, settings, convnet, SIDE) == maps.nbytes


def test_evaluations_are_timed() -> None:
    speed = time_evaluations(prepared(small_convnet(), SIDE), SIDE)
    assert 0 < speed.forward < speed.gradient


def test_an_estimate_needs_no_data_and_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    params = world.params
    params["saliency"] = {name: params["saliency"][name] for name in ("grad_cam", "lime")}
    params["models"] = {"resnet_mini": params["models"]["resnet_mini"]}
    world.set(params)
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in str(path)}
    lines = world.stage("estimate").stdout.splitlines()
    assert before == {path for path in tmp_path.rglob("*") if "__pycache__" not in str(path)}
    rows = params["plan"]["images"] * (
        1 + 7 * params["plan"]["magnitudes"] + 6 + 1 + len(params["plan"]["checkpoints"])
    )
    cells = {tuple(line.split()[:3]): line.split()[3:] for line in lines[1:5]}
    assert set(cells) == {(d, "resnet_mini", m) for d in ("digits", "shapes") for m in ("grad_cam", "lime")}
    maps, forwards, gradients, disk, _ = cells["digits", "resnet_mini", "lime"]
    samples = params["saliency"]["lime"]["samples"]
    assert (int(maps), int(forwards.replace(",", "")), int(gradients)) == (rows, rows * samples, 0)
    assert float(disk) == pytest.approx(rows * 56 * 56 / 1e6, abs=0.06)
    assert lines[5].split()[:2] == ["all", str(4 * rows)]
    assert np.isfinite(float(lines[5].split()[-1]))


def test_a_wrong_parameter_is_one_line(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.edit("saliency.lime.samples", 0)
    done = world.stage("estimate", check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: params.yaml: saliency.lime.samples: found 0; allowed: input should be greater than or equal to 2\n"
    )
