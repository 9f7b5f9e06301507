"""What a run is said to take."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.core.batches import batch_size
from pipeline.data.plan import draw_plan
from pipeline.data.plan_settings import PlanSettings, rows_per_image
from pipeline.data.transforms import TRANSFORMS
from pipeline.models.build import build
from pipeline.models.classifier import Classifier
from pipeline.models.trained import save_state
from pipeline.results.estimate import (
    GPU_FLOPS,
    SHARE,
    SPREAD,
    Speed,
    bytes_per_map,
    count_operations,
    gpu_minutes,
    measure_weights,
    minutes,
    prepared,
    time_evaluations,
)
from pipeline.saliency.map_file import encode
from pipeline.saliency.method import METHODS, Cost
from tests.conftest import SIDE, small_convnet
from tests.models.networks import small_network
from tests.settings import SMALL
from tests.world import ROOT, World, every_cell

PAPER = yaml.safe_load((ROOT / "profiles/paper.yaml").read_text())


@pytest.mark.parametrize("names", [tuple(TRANSFORMS), ("flip_lr", "rotate"), ("blur",)])
@pytest.mark.parametrize("checkpoints", [(), (10, 50)])
def test_rows_are_those_of_the_plan(names: tuple[str, ...], checkpoints: tuple[int, ...]) -> None:
    settings = PlanSettings(images=3, magnitudes=2, transforms=names, checkpoints=checkpoints)
    splits = pd.DataFrame({"image": range(5), "name": list("abcde"), "label": 0, "split": "test"})
    assert 3 * rows_per_image(settings, SIDE, trained=True) == len(draw_plan(splits, settings, SIDE, 0, dataset="test"))


def test_minutes_by_hand() -> None:
    # 600 maps of 10 forward passes at 2 ms and 5 gradients at 8 ms are 36 s of evaluations.
    assert minutes(600, Cost(forward=10, gradient=5), Speed(2, 8)) == pytest.approx(36 / 60 / SHARE)


@pytest.mark.parametrize("name", METHODS)
def test_disk_is_what_a_map_takes(name: str, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    method, settings = METHODS[name], SMALL[name]
    maps = method.explain(convnet, images[:1], targets[:1], settings, [0]).numpy()
    maps = encode(maps, method.stored_as)
    assert bytes_per_map(method, settings, convnet, SIDE) == maps.nbytes


@pytest.mark.slow
def test_evaluations_are_timed() -> None:
    speed = time_evaluations(prepared(small_convnet(), SIDE), SIDE)
    assert 0 < speed.forward < speed.gradient
    assert speed.spread >= 1


@pytest.mark.slow
def test_the_shortest_timing_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSE_THREADS", "1")
    monkeypatch.setattr("pipeline.results.estimate.SECONDS", 0.0)
    alone = time_evaluations(prepared(small_convnet(), SIDE), SIDE)
    slow = prepared(small_convnet(), SIDE)
    # As if other programs had the processor: in the third timing of forward passes they do not, in gradients always.
    rests = iter([0.1, 0.1, 0.1, 0.0, *(0.1,) * 100])
    slow.register_forward_pre_hook(lambda *_: time.sleep(next(rests)))
    speed = time_evaluations(slow, SIDE)
    size = batch_size(SIDE, torch.device("cpu"))
    assert speed.forward < alone.forward + 50 / size
    assert speed.gradient < alone.gradient + 50 / size
    assert speed.spread > SPREAD


@pytest.mark.slow
def test_an_estimate_needs_no_data_and_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    params = world.params
    params["saliency"] = {name: params["saliency"][name] for name in ("grad_cam", "lime", "score_cam", "center")}
    params["saliency"]["lime"]["images"] = "all"
    params["saliency"]["score_cam"]["images"] = 1
    params["models"] = {"resnet_mini": params["models"]["resnet_mini"]}
    del params["datasets"]["photos"]  # on which no model is trained
    params["cells"] = every_cell(params)
    params["cells"]["shapes-resnet_mini"]["without"] = {"grad_cam": "not asked for here"}
    params["faithfulness"] = {name: params["faithfulness"][name] for name in ("average_drop", "average_gain")}
    params["localisation"] |= {"box_study": ["average_drop", "average_gain"]}
    world.set(params)
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in str(path)}
    lines = world.stage("estimate").stdout.splitlines()
    assert before == {path for path in tmp_path.rglob("*") if "__pycache__" not in str(path)}
    rows = params["plan"]["images"] * (
        1 + 7 * params["plan"]["magnitudes"] + 6 + 1 + len(params["plan"]["checkpoints"])
    )
    assert max(map(len, lines)) <= 100
    cells, cell = {}, ""
    for line in lines[1:10]:
        if line.startswith("  "):
            name, *numbers = line.split()
            cells[cell, name] = numbers
        else:
            cell = line
    assert list(cells) == [
        *(("digits-resnet_mini", name) for name in ("grad_cam", "lime", "score_cam", "center")),
        *(("shapes-resnet_mini", name) for name in ("lime", "score_cam", "center")),
    ]
    maps, forwards, gradients, disk, *_ = cells["digits-resnet_mini", "lime"]
    samples = params["saliency"]["lime"]["samples"]
    assert (int(maps), int(forwards.replace(",", "")), int(gradients)) == (rows, rows * samples, 0)
    assert float(disk) == pytest.approx(rows * 56 * 56 / 1e6, abs=0.06)
    # A forward pass for every one of the layer's 96 channels, and one for all of them.
    of_one = rows // params["plan"]["images"]
    maps, forwards, gradients, *_ = cells["digits-resnet_mini", "score_cam"]
    assert (int(maps), int(forwards.replace(",", "")), int(gradients)) == (of_one, of_one * 97, 0)
    # A control asks for nothing and takes next to no time.
    assert cells["digits-resnet_mini", "center"][:3] == [str(rows), "0", "0"]
    assert cells["digits-resnet_mini", "center"][-4:] == ["<", "0.1", "<", "0.1"]
    assert lines[10].split()[:2] == ["all", str(5 * rows + 2 * of_one)]
    in_megabytes = [float(cell[3]) for cell in cells.values()]
    assert float(lines[10].split()[4]) == pytest.approx(sum(in_megabytes), abs=0.4)
    text = " ".join(lines[11:])
    assert "2 cells, 4 methods, 7 (cell, method) pairs: 0.0 GB of maps" in text
    # Both ask for the picture and the picture under its map, of every map of an unperturbed image; the box study does
    # so for three parts of a map, and for the boxes and what is beside them; and one metric asks about a cut-out.
    images = params["plan"]["images"]
    reference_maps = 5 * images + 2
    forwards = (2 + 3 * 2 + 1) * reference_maps + 2 * 2 * 2 * images
    assert f"Faithfulness and localisation need at most {forwards} more forward passes, " in text
    seen = params["datasets"]["shapes"]["images"] * params["training"]["shapes"]["epochs"]
    assert f"and {seen:,} to a network that learns (about three) (not counted: digits)" in text
    assert "not here" not in text


def test_operations_are_those_of_the_layers() -> None:
    # The small network: two convolutions of stride 2 and a linear layer; its gradient goes through all of them again,
    # with respect to what each is given.
    side = SIDE // 2
    forward = 2 * (3 * 8 * 9 * side**2 + 8 * 12 * 9 * (side // 2) ** 2 + 12 * (side // 2) ** 2 * 4)
    counted = count_operations(small_convnet(), SIDE)
    assert (counted.forward, counted.gradient) == (forward, 2 * forward)
    # A hundred maps of two forward passes and three gradients are 800 times that.
    assert gpu_minutes(100, Cost(forward=2, gradient=3), counted) == 800 * forward / GPU_FLOPS / SHARE / 60


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("head", [(), (11,), (12, 7)])
def test_weights_take_what_the_train_stage_writes(head: tuple[int, ...], frozen: bool, tmp_path: Path) -> None:
    said = measure_weights(build(small_network(9), 0)).written(head, 9, 3, frozen)
    model = build(small_network(9, head=head), 0)
    states = model.network.state_dict()
    classifier = model.classifier_weights()
    files = {"random": None, "trained": classifier if frozen else None}
    files |= {f"epoch_{number}": files["trained"] for number in range(3)}
    if frozen:
        files["backbone"] = set(states) - classifier
    for name, names in files.items():
        save_state(model, tmp_path / f"{name}.safetensors", names)
    found = sum(tensor.nbytes for file in tmp_path.iterdir() for tensor in load_file(file).values())
    assert said == found


@pytest.mark.slow
def test_the_papers_grid_is_estimated_without_data(tmp_path: Path) -> None:
    world = World(tmp_path)
    profile = copy.deepcopy(PAPER)
    few = ("resnet50", "spark_convnext_small", "moco_v3_resnet50")
    profile["models"] = {name: profile["models"][name] for name in few}
    profile["cells"] = every_cell(profile)
    (world.root / "profiles/few.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    text = world.stage("estimate", "--profile", "few").stdout
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("  ")]) == 3 * 7
    of_resnet = lines.index("resnet50, over all datasets")
    guided = next(line for line in lines[of_resnet:] if line.startswith("  guided_ig")).split()
    assert guided[1] == f"{5 * 510 * 59:,}"
    assert guided[3] == f"{5 * 510 * 59 * 200:,}"
    assert float(guided[4].replace(",", "")) == pytest.approx(5 * 510 * 59 * 224**2 / 1e6, rel=1e-3)
    plain = " ".join(text.split())
    assert "15 cells, 7 methods, 105 (cell, method) pairs" in plain
    gigabytes = float(plain.split(" GB of maps")[0].split()[-1].replace(",", ""))
    assert gigabytes * 13 / 3 < 400
    missing = [line for line in text.splitlines() if line.startswith("not ")]
    assert "not known: resnet50: resnet50.tv2_in1k, from timm's hub or its cache (HF_HOME)" in missing
    file = PAPER["models"]["spark_convnext_small"]["weights"]["file"]
    assert f"not here: spark_convnext_small: {file}, to be placed by hand" in missing
    assert any(
        line.startswith("not here: cub200: data/sources/cub200/CUB_200_2011.tgz, downloaded from") for line in missing
    )
    assert not (world.root / "data").exists()


@pytest.mark.slow
def test_a_wrong_parameter_is_one_line(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.edit("saliency.lime.samples", 0)
    done = world.stage("estimate", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: params.yaml: saliency.lime.samples: found 0; allowed: at least 2\n"
