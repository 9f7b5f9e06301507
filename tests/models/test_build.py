"""Building networks: from an architecture alone, repeatably, and one line for what timm does not take."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.models.build import PLAIN, build, resolved, seeded, try_out
from pipeline.models.cam_layer import CamLayer
from pipeline.models.network import Network, NetworkSettings
from pipeline.models.recipe import FileWeights, ModelSettings, TrainingSettings
from tests.conftest import described
from tests.models.networks import small_network, small_resnet
from tests.world import ROOT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet81"}, r"no timm model is called 'resnet81', did you mean 'resnet\w+'\?"),
        ({"arguments": {"colour": 1}}, r"arguments: found \{'colour': 1\}, which timm's resnet18 does not take"),
        ({"cam_layer": "layer4.7"}, r"cam_layer: found 'layer4\.7'; there is no '7' \(here: 0\)"),
        ({"cam_layer": "layer9"}, r"there is no 'layer9' \(here: conv1, bn1"),
    ],
)
def test_bad_models(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(small_network(**change), 0)


@pytest.mark.parametrize(
    ("layer", "layout", "shape"),
    [
        ("layer4.-1", "tokens", r"\(1, 16, \d, \d\)"),
        ("layer4.-1", "channels_last", r"\(1, 16, \d, \d\)"),
        ("fc", "tokens", r"\(1, 4\)"),
        ("global_pool", "channels_first", r"\(1, 16\)"),
        ("fc", "channels_last", ""),
    ],
)
def test_a_wrong_layout_is_found_out(layer: str, layout: str, shape: str) -> None:
    message = rf"cam_layout: found '{layout}' for layer {layer}, whose output has shape {shape}"
    with pytest.raises(UserError, match=message):
        build(small_network(cam_layer=layer, cam_layout=layout), 0)
    with pytest.raises(UserError, match=rf"^params.yaml: models\.mine\.{message}"):
        try_out(small_network(cam_layer=layer, cam_layout=layout), "mine", frozen=False, layers=0)
    model = build(small_network(), 0)
    with pytest.raises(UserError, match=r"cam_layout: found 'channels_first' for layer layer4\.-1, whose output has"):
        model.grid(torch.zeros(1, 50, 16))


REFUSED = {
    "act_layer": {"arguments": {"act_layer": "nope"}},
    "norm_layer": {"arguments": {"norm_layer": "nope"}},
    "block": {"arguments": {"block": "x"}},
    "no layers": {"arguments": {"layers": []}},
    "too few layers": {"arguments": {"layers": [1, 1]}},
    "stem_width": {"arguments": {"stem_width": 0, "stem_type": "deep"}},
    "drop_rate": {"arguments": {"drop_rate": "x"}},
    "a drop_rate of two": {"arguments": {"drop_rate": 2}},
    "global_pool": {"arguments": {"global_pool": ""}},
    "unknown": {"arguments": {"colour": 1}},
    "no such layer": {"cam_layer": "layer9"},
    "a layer that does not run": {"architecture": "inception_v3", "cam_layer": "auto", "cam_layout": "auto"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_be_built_or_run_is_found_without_weights(name: str) -> None:
    with pytest.raises(UserError, match=r"^params\.yaml: models\.mine(\.\w+)?: ") as caught:
        try_out(small_network(**REFUSED[name]), "mine", frozen=False, layers=0)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "xcit_nano_12_p16_224"]
)
def test_what_can_be_built_is_tried_out_in_a_moment(name: str) -> None:
    before = torch.get_rng_state()
    network = described(name, 5, 224, (8,))
    began = time.process_time()
    try_out(network, "mine", frozen=True, layers=1)
    assert time.process_time() - began < 20  # with weights, the largest of the paper's take longer
    assert torch.equal(torch.get_rng_state(), before)
    assert {tensor.device.type for tensor in build(network, 0).state_dict().values()} == {"cpu"}


def test_what_training_and_randomising_need_is_tried_out() -> None:
    distilled = described("deit_tiny_distilled_patch16_224", 5, 224, arguments={"depth": 1})
    with pytest.raises(UserError, match="timm knows 2 classifiers of this architecture"):
        try_out(distilled, "mine", frozen=True, layers=0)
    try_out(distilled, "mine", frozen=False, layers=0)
    with pytest.raises(UserError, match=r"plan\.layers: found 9; allowed: at most \d"):
        try_out(small_network(), "mine", frozen=False, layers=9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_chans": 1}, "arguments without 'in_chans', which the pictures stands for"),
        ({"checkpoint_path": "/etc/passwd"}, "arguments without 'checkpoint_path', which weights stands for"),
        ({"features_only": True}, "arguments without 'features_only', which cam_layer stands for"),
        ({"layers": [1, 1, 1, 10_000_000]}, "numbers of at most 10000"),
        ({"deep": {"er": [[1e300]]}}, "numbers of at most 10000"),
    ],
)
def test_arguments_that_the_benchmark_gives_itself_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^params\.yaml: models\.x\.arguments: found \{{.*\}}; allowed: {message}$"):
        params.check("models.x", ModelSettings, {"architecture": "resnet18", "arguments": arguments})


def test_tokens_are_laid_out_row_by_row_without_the_class_token() -> None:
    model = build(small_network(), 0)
    model.cam = CamLayer(model.cam.path, "tokens", None)
    tokens = torch.arange(10.0).view(1, 10, 1)  # a class token and a 3 by 3 grid
    assert model.grid(tokens)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_an_architecture_alone_is_enough() -> None:
    settings = params.check("models.mine", ModelSettings, {"architecture": "resnet18"})
    assert settings.model_dump() == {
        "architecture": "resnet18",
        "arguments": {},
        "crop_fraction": "auto",
        "interpolation": "auto",
        "mean": "auto",
        "std": "auto",
        "cam_layer": "auto",
        "cam_layout": "auto",
        "weights": None,
        "recipes": {},
        "checkpoints": {},
    }
    network = Network(settings=settings.network(), classes=3, image_size=64, head=())
    model = build(network, seed=0)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert model.cam == ("layer4", "channels_first", None)


def test_a_file_and_epochs_alone_are_enough_too() -> None:
    weights = params.check("weights", FileWeights, {"file": "x.pth"})
    assert weights.model_dump() == {
        "file": "x.pth",
        "package": None,
        "url": None,
        "sha256": None,
        "inside": (),
        "drop": (),
        "prefixes": (),
        "fresh": (),
        "names": "timm",
    }
    recipe = params.check("training.mine", TrainingSettings, {"epochs": 10})
    assert (recipe.head, recipe.backbone, recipe.precision, recipe.clip_value) == ((), "trained", "float32", None)
    with pytest.raises(UserError, match=r"training\.mine\.epochs: missing; it has no default"):
        params.check("training.mine", TrainingSettings, {"batch_size": 3})


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "vit_base_patch16_clip_224.openai", "convnext_atto.d2_in1k"])
def test_what_is_left_out_is_what_timm_says(name: str) -> None:
    known = timm.get_pretrained_cfg(name)
    found = resolved(NetworkSettings(architecture=name))
    assert found.crop_fraction == known.crop_pct
    assert found.interpolation == known.interpolation
    assert found.mean == tuple(known.mean)
    assert found.std == tuple(known.std)
    assert (found.cam_layer, found.cam_layout) == ("auto", "auto")
    own = NetworkSettings(architecture=name, mean=(0.1, 0.2, 0.3), crop_fraction=0.5)
    assert resolved(own).mean == (0.1, 0.2, 0.3)
    assert resolved(own).crop_fraction == 0.5
    assert resolved(own).std == found.std


def test_filters_that_we_do_not_have_become_bicubic(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(crop_pct=0.9, interpolation="random", mean=(0.1, 0.1, 0.1), std=None)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: known)
    found = resolved(NetworkSettings(architecture="resnet18"))
    assert (found.crop_fraction, found.interpolation, found.mean) == (0.9, "bicubic", (0.1, 0.1, 0.1))
    assert found.std == PLAIN["std"]


def test_what_timm_does_not_say_is_as_imagenets_pictures_usually_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: None)
    unknown = resolved(NetworkSettings(architecture="resnet18"))
    assert {name: getattr(unknown, name) for name in PLAIN} == PLAIN


@pytest.mark.parametrize("changes", [{}, {"mean": "auto"}])
@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnet81", "no timm model is called 'resnet81', did you mean 'resnet"),
        ("resnet18.tv_in2k", "no kind of weights of resnet18 is called 'resnet18.tv_in2k', did you mean"),
    ],
)
def test_an_architecture_that_timm_does_not_know_is_one_line(
    architecture: str, message: str, changes: dict[str, str]
) -> None:
    with pytest.raises(UserError, match=re.escape(f"params.yaml: models.*.architecture: {message}")):
        resolved(small_network(architecture=architecture, **changes).settings)


def test_a_network_comes_back_and_says_how_pictures_are_brought_to_it(tmp_path: Path) -> None:
    network = small_network(head=(3,), interpolation="bicubic")
    network.write(tmp_path)
    assert Network.read(tmp_path) == network
    assert network.fitting == (1.0, "bicubic")
    with pytest.raises(ValueError, match="timm's values have not been filled in"):
        _ = described("resnet18", 3, 64).fitting
    (tmp_path / "network.json").write_text(
        (tmp_path / "network.json").read_text().replace('"classes": 4', '"classes": 0')
    )
    with pytest.raises(UserError, match=r"network\.json: classes: found 0; allowed: at least 1"):
        Network.read(tmp_path)


def test_a_seed_gives_the_same_network_and_leaves_the_generators() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    weights = [torch.cat([p.flatten() for p in small_resnet(seed=seed).parameters()]) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_seeded_leaves_the_global_generator_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    drawn = []
    for seed in (3, 3, 4):
        with seeded(seed):
            drawn.append(torch.randn(4))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    with pytest.raises(RuntimeError, match="inside"), seeded(3):
        torch.randn(4)
        raise RuntimeError("inside")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(torch.randn(4), drawn[0])


COMPILES = """
import sys
import pipeline.models.build
import pipeline.models.fusion
assert not [name for name in sys.modules if name.startswith("torch._dynamo")], "importing timm brings no compiler"
import torch
def f(x):
    return x.sin() + 1
calls = []
def backend(graph, inputs):
    calls.append(graph)
    return graph.forward
x = torch.arange(4.0)
assert torch.equal(torch.compile(f, backend="eager")(x), f(x))
assert torch.equal(torch.compile(f, backend=backend)(x), f(x))
assert len(calls) == 1, "the real compiler was asked"
assert not [name for name in sys.modules if "stands_in" in vars(sys.modules[name])]
"""


@pytest.mark.slow
def test_the_compiler_is_there_for_whoever_wants_it_afterwards() -> None:
    subprocess.run([sys.executable, "-c", COMPILES], cwd=ROOT, check=True)
