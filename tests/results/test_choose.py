"""Choosing a method for a picture: what is chosen from, the order, and what is said of it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.core.errors import UserError
from pipeline.metrics.faithfulness.metric import FLAT, METRICS
from pipeline.models.cam_layer import CamLayer
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network, NetworkSettings
from pipeline.models.ready import Ready, ready_model
from pipeline.results.candidates import Candidate, affordable, at_layers, controls, read_candidate
from pipeline.results.choice_sheet import COLUMNS, choice_sheet
from pipeline.results.choose import Choice, choose, lines, measure, over_pictures, verdict
from pipeline.saliency.method import METHODS, Cost, Method, MethodSettings
from stages.choose import main
from tests.metrics.faithfulness.world import small

SIDE = 16
METRIC = METRICS["road_combined"]
SETTINGS = METRIC.settings.model_validate({"percents": [10, 20], "noise": 0.0})


class Patch(nn.Module):
    """Tells two classes apart by how bright the patch at the top left is."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = self.features(images)[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([4 * bright, -4 * bright], 1)


@pytest.fixture
def ready() -> Ready:
    model = Classifier(Patch(), (0.5,) * 3, (0.5,) * 3, CamLayer("features", "channels_first", None)).eval()
    network = Network(settings=NetworkSettings(architecture="none"), classes=2, image_size=SIDE, head=())
    return Ready("patch", model, network, {0: "bright patch", 1: "dark patch"})


def candidate(name: str, saliency: np.ndarray, *, control: bool = False) -> Candidate:
    def explain(
        model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Any, seeds: Sequence[int]
    ) -> torch.Tensor:
        return torch.from_numpy(saliency[None]).float()

    method = Method(MethodSettings, explain, "unit", lambda settings: Cost(), control=control)
    return Candidate(name, method, MethodSettings(images="all"))


def on_patch() -> np.ndarray:
    found = np.linspace(0, 0.4, SIDE**2).reshape(SIDE, SIDE)
    found[:4, :4] = 1
    return found


@pytest.fixture
def picture() -> np.ndarray:
    drawn = np.full((SIDE, SIDE, 3), 60, np.uint8)
    drawn[:4, :4] = 250
    return drawn


@pytest.fixture
def choice(ready: Ready, picture: np.ndarray) -> Choice:
    noise = np.random.default_rng(0).random((SIDE, SIDE))
    candidates = [
        candidate("constant", np.full((SIDE, SIDE), 0.5)),
        candidate("elsewhere", 1 - on_patch()),
        candidate("noise", noise, control=True),
        candidate("right", on_patch()),
    ]
    return choose(ready, "drawn", picture, None, candidates=candidates, metric=METRIC, settings=SETTINGS, seed=0)


def test_the_map_of_what_the_model_looks_at_comes_first(choice: Choice) -> None:
    assert (choice.prediction, choice.target) == (0, 0)
    assert [one.candidate.name for one in choice.measured] == ["right", "noise", "elsewhere", "constant"]
    constant = choice.measured[-1]
    assert (constant.value, constant.reason) == (None, FLAT)
    best = choice.best(control=False)
    assert best is not None
    assert best.value is not None
    assert best.value > 0


def test_maps_are_measured_as_if_each_were_alone(ready: Ready, picture: np.ndarray) -> None:
    images = ready.model.normalize(picture[None])
    maps = [on_patch(), 1 - on_patch(), np.random.default_rng(1).random((SIDE, SIDE))]
    noisy = METRIC.settings.model_validate({"percents": [10, 50], "noise": 0.1})
    together = measure(ready.model, images, 0, maps, metric=METRIC, settings=noisy, seed=3)
    assert together == pytest.approx(
        [measure(ready.model, images, 0, [one], metric=METRIC, settings=noisy, seed=3)[0] for one in maps]
    )


@pytest.mark.parametrize("name", [name for name in METRICS if "method" not in METRICS[name].needs])
def test_every_metric_that_needs_no_method_measures(name: str, ready: Ready, picture: np.ndarray) -> None:
    metric, settings = METRICS[name], small(name)
    found = measure(
        ready.model, ready.model.normalize(picture[None]), 0, [on_patch()], metric=metric, settings=settings, seed=0
    )
    assert len(found) == 1
    assert np.isfinite(found).all()


def test_the_verdict_says_whether_the_best_beats_the_controls(choice: Choice) -> None:
    said = verdict(choice, "road_combined", better="higher")
    assert said.startswith("right is best (road_combined 0.")
    assert "beats the best control, noise (" in said
    without = [one for one in choice.measured if one.candidate.name != "right"]
    beaten = Choice("drawn", choice.picture, 0, 0, choice.probabilities, without)
    assert verdict(beaten, "ROAD", better="higher").startswith("No method beats the controls here: noise (")
    alone = [one for one in choice.measured if not one.candidate.control]
    assert "no control was measured" in verdict(
        Choice("drawn", choice.picture, 0, 0, choice.probabilities, alone), "ROAD", better="higher"
    )


def test_over_pictures_ranks_are_averaged(choice: Choice) -> None:
    table = lines([choice, choice])
    assert table["rank"].tolist() == [1, 2, 3, pd.NA] * 2
    found = over_pictures(table)
    assert found["candidate"].tolist() == ["right", "noise", "elsewhere", "constant"]
    assert found["first"].tolist() == [2, 0, 0, 0]
    assert found["pictures"].tolist() == [2, 2, 2, 0]


def test_the_sheet_shows_the_picture_and_every_map(choice: Choice, ready: Ready) -> None:
    sheet = choice_sheet(choice, "ROAD", "patch", "A line.", class_name=ready.class_name)
    panels = [panel for line in sheet.lines for panel in line.panels]
    assert len(panels) == 5
    assert len(sheet.headings) == COLUMNS
    assert panels[0].words[1].startswith("bright patch ")
    assert panels[1].words[0] == "right"
    assert panels[2].words[1].endswith(" (control)")
    assert panels[4].words[1] == "undefined"


def test_a_candidate_is_written_on_a_line() -> None:
    plain = read_candidate("grad_cam")
    assert (plain.layer, plain.control) == (None, False)
    layered = read_candidate("grad_cam@blocks.5")
    assert layered.layer == "blocks.5"
    changed = read_candidate("smooth_grad:samples=3,noise=0.5")
    assert (changed.settings.samples, changed.settings.noise) == (3, 0.5)  # type: ignore[attr-defined]
    moved = at_layers([plain, layered, changed], ["a", "b"])
    assert [one.name for one in moved] == ["grad_cam@a", "grad_cam@b", "grad_cam@blocks.5", changed.name]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("grad-cam", "methods: found 'grad-cam'; allowed: method, method@layer"),
        ("grad_cat", "methods: no method is called 'grad_cat', did you mean 'grad_cam'?"),
        ("lime@blocks.5", "methods: found 'lime@blocks.5'; allowed: lime without a layer"),
        ("lime:samples", "methods: found 'lime:samples'; allowed: settings as key=value"),
        ("lime:sample=3", "params.yaml: saliency.lime.sample: unknown key, did you mean 'samples'?"),
        ("lime:samples=0", "params.yaml: saliency.lime.samples: found 0; allowed: "),
    ],
)
def test_a_candidate_that_is_none_is_one_line(written: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_candidate(written)
    assert str(caught.value).startswith(message)


def test_controls_need_nothing_of_params() -> None:
    for name in controls():
        METHODS[name].settings.model_validate({"images": "all"})
    assert {"sobel", "random_map_7x7"} < set(controls())


def test_dear_methods_wait_to_be_named() -> None:
    candidates, dear = affordable(1280)
    assert {one.name for one in candidates}.isdisjoint(dear)
    assert all(one.passes(1280) <= 400 for one in candidates)


def test_classes_are_found_by_number_or_name(ready: Ready) -> None:
    assert ready.find_class("1") == 1
    assert ready.find_class("Dark") == 1
    with pytest.raises(UserError, match=r"^class: found 'patch', which is in the names of 2 classes"):
        ready.find_class("patch")
    with pytest.raises(UserError, match=r"^class: found 2; allowed: 0 to 1, or a name$"):
        ready.find_class("2")


@pytest.fixture(scope="module")
def lite0() -> Ready:
    return ready_model("efficientnet_lite0", None)


def test_a_model_as_it_is_has_the_size_of_its_cell_and_its_classes(lite0: Ready) -> None:
    assert (lite0.network.image_size, lite0.network.classes) == (128, 1000)
    assert lite0.class_name(285) == "Egyptian cat"
    with pytest.raises(UserError, match=r"^params\.yaml: no model or cell is called 'efficientnet_lite1', did you"):
        ready_model("efficientnet_lite1", None)


def test_another_layer_is_read_where_it_is(lite0: Ready) -> None:
    inner = lite0.at_layer("blocks.4")
    assert inner.cam.path == "blocks.4"
    assert inner.network is lite0.model.network
    with pytest.raises(UserError, match="there is no 'blocs'"):
        lite0.at_layer("blocs.4")


def options(**changes: Any) -> Namespace:
    plain = {
        "image": "coffee",
        "model": "efficientnet_lite0",
        "target": None,
        "methods": "grad_cam",
        "layers": None,
        "metric": "road_combined",
        "size": None,
        "out": "choices",
    }
    return Namespace(**plain | changes)


@pytest.mark.slow
def test_a_folder_of_pictures_gets_a_sheet_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("one.jpg", "two.png", "two.jpg"):
        Image.fromarray(rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)).save(folder / name)
    # Two pictures whose names differ by their ending alone do not overwrite each other's sheet.
    main(options(image=str(folder), layers="blocks.4 bn2", target="espresso", out=str(tmp_path / "out")))
    said = capsys.readouterr().out
    assert "one.jpg: " in said
    assert "mean_rank" in said
    made = {file.name for file in (tmp_path / "out").iterdir()}
    assert made == {"one.png", "two.png.png", "two.jpg.png", "choices.csv"}
    table = pd.read_csv(tmp_path / "out/choices.csv")
    assert {"grad_cam@blocks.4", "grad_cam@bn2"} < set(table["candidate"])
    assert table["control"].any()
    assert (table["class"] == 967).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ""}, "image: found nothing; allowed: a picture, a folder of pictures, or a photograph's name"),
        ({"image": "cofee"}, "image: no file, folder or photograph is called 'cofee', did you mean 'coffee'?"),
        ({"metric": "road"}, "metric: no faithfulness metric is called 'road', did you mean "),
        ({"metric": "tied_pixels"}, "metric: found 'tied_pixels', which puts no maps in order by itself; allowed: "),
        ({"target": "nothing"}, "class: found 'nothing', which is in the names of 0 classes (none); allowed: "),
        ({"methods": "grad_cam@blocks.9"}, "methods: grad_cam@blocks.9: cam_layer: found 'blocks.9'; there is no '9'"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        main(options(out=str(tmp_path), **changes))
    assert str(caught.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no picture; allowed: a folder with files"):
        main(options(image=str(tmp_path), out=str(tmp_path / "out")))
