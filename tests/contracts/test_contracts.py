"""What every method, model and dataset must keep; a new one is picked up by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.core import params
from pipeline.data.dataset import DATASETS
from pipeline.data.decode import open_image
from pipeline.data.splits import draw_splits
from pipeline.models.build import build
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network
from pipeline.models.recipe import FileWeights, ModelSettings
from pipeline.models.weights import load_pretrained
from pipeline.saliency.cams import activations_and_gradients
from pipeline.saliency.map_file import decode, encode, enlarge
from pipeline.saliency.method import METHODS
from tests.conftest import SIDE, Patch
from tests.publishers import FOLDERS, PUBLISHERS
from tests.settings import SMALL
from tests.world import folder_of_pictures

PARAMS = yaml.safe_load(Path("params.yaml").read_text())


SEEDS = [3, 1, 4, 1, 5]
TOLERANCE = {"guided_ig": 0.3}
"""Gradients differ in their last bit with the batch, which guided IG's ranking of pixels amplifies."""


class Explained:
    """What a method makes of the five images, and the same again."""

    def __init__(self, name: str, model: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
        self.method, self.settings = METHODS[name], SMALL[name]
        self.model, self.images, self.targets = model, images, targets
        self.tolerance = TOLERANCE.get(name, 1e-4)

    def __call__(self, rows: list[int] | None = None) -> torch.Tensor:
        """Return the maps of some rows, explained together."""
        at = list(range(len(self.images))) if rows is None else rows
        seeds = [SEEDS[row] for row in at]
        return self.method.explain(self.model, self.images[at], self.targets[at], self.settings, seeds)


@pytest.fixture(params=list(METHODS))
def explained(
    request: pytest.FixtureRequest, convnet: Classifier, images: torch.Tensor, targets: torch.Tensor
) -> Explained:
    return Explained(request.param, convnet, images, targets)


def test_maps_are_finite_floats_no_larger_than_the_images(explained: Explained) -> None:
    maps = explained()
    assert maps.ndim == 3
    assert len(maps) == len(explained.images)
    assert max(maps.shape[1:]) <= explained.images.shape[-1]
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad


def test_maps_have_the_kind_of_values_that_the_method_declares(explained: Explained) -> None:
    maps, values = explained(), explained.method.values
    assert maps.abs().max() <= 1
    assert values != "unit" or maps.min() >= 0
    assert values != "ternary" or set(maps.unique().tolist()) <= {-1, 0, 1}
    np.testing.assert_allclose(decode(encode(maps.numpy(), explained.method.stored_as)), maps.numpy(), atol=5e-3)


def test_maps_show_something(explained: Explained) -> None:
    if explained.method is METHODS["uniform"]:
        pytest.skip("a constant map is what this control is")
    assert explained().flatten(1).std(dim=1).max() > 0.01


def test_the_same_question_has_the_same_answer(explained: Explained) -> None:
    torch.testing.assert_close(explained(), explained(), atol=0, rtol=0)


def test_a_map_does_not_depend_on_the_other_rows_of_its_batch(explained: Explained) -> None:
    maps = explained()
    one_by_one = torch.cat([explained([row]) for row in range(len(maps))])
    assert (one_by_one - maps).abs().mean() < explained.tolerance / 30
    assert (one_by_one - maps).abs().max() < explained.tolerance


def test_a_map_does_not_depend_on_its_place_in_the_batch(explained: Explained) -> None:
    rows = list(range(len(explained.images)))[::-1]
    assert (explained(rows).flip(0) - explained()).abs().mean() < explained.tolerance / 30


def test_a_method_leaves_no_trace(explained: Explained) -> None:
    model, before = explained.model, explained.images.clone()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    explained()
    torch.testing.assert_close(explained.images, before, atol=0, rtol=0)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, state[key], atol=0, rtol=0)
    assert not model.training
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.control])
def test_more_than_chance_lies_on_what_the_model_looks_at(name: str, patch: Classifier, images: torch.Tensor) -> None:
    # A map may be smooth, or coarse; test_saliency_cases.py is stricter with the methods whose definition allows it.
    targets = torch.zeros(len(images), dtype=torch.int64)
    maps = METHODS[name].explain(patch, images, targets, SMALL[name], SEEDS).numpy()
    at_size = torch.from_numpy(np.stack([enlarge(one, SIDE, METHODS[name].values) for one in maps])).abs()
    rows, columns = slice(Patch.TOP, Patch.TOP + Patch.SIZE), slice(Patch.LEFT, Patch.LEFT + Patch.SIZE)
    share = at_size[:, rows, columns].sum(dim=(1, 2)) / at_size.sum(dim=(1, 2))
    assert share.mean() > Patch.SIZE**2 / SIDE**2


@pytest.mark.parametrize("name", METHODS)
def test_params_yaml_has_every_method_and_its_settings_fit(name: str) -> None:
    assert name in PARAMS["saliency"]
    params.check(f"saliency.{name}", METHODS[name].settings, PARAMS["saliency"][name])


def test_methods_differ(convnet: Classifier, images: torch.Tensor, targets: torch.Tensor) -> None:
    maps = {}
    for name, settings in SMALL.items():
        stored = METHODS[name].explain(convnet, images, targets, settings, [1] * 5)
        maps[name] = torch.from_numpy(
            np.stack([enlarge(one, images.shape[-1], METHODS[name].values) for one in stored.numpy()])
        )
    for a in maps:
        for b in maps:
            assert a == b or (maps[a] - maps[b]).abs().mean() > 1e-3, f"{a} and {b} give the same maps"


@pytest.mark.parametrize("name", PARAMS["models"])
def test_model(name: str) -> None:
    settings: ModelSettings = params.check(f"models.{name}", ModelSettings, PARAMS["models"][name])
    used_on = [cell["dataset"] for cell in PARAMS["cells"].values() if cell["model"] == name]
    size = max([56, *(PARAMS["datasets"][dataset]["image_size"] for dataset in used_on)])
    network = Network(settings=settings.network(), classes=7, image_size=size, head=())
    before = torch.random.get_rng_state()
    model, same, other = (build(network, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.training
    weights = [torch.cat([p.flatten() for p in one.parameters()]) for one in (model, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])

    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    images = model.normalize(pixels)
    assert images.dtype == torch.float32
    assert images.shape == (3, 3, size, size)
    np.testing.assert_array_equal(model.pixels(images), pixels)
    with torch.inference_mode():
        logits = model(images)
        assert logits.shape == (3, 7)
        torch.testing.assert_close(logits, torch.cat([model(one[None]) for one in images]), atol=1e-5, rtol=1e-4)

    activations, gradients = activations_and_gradients(model.requires_grad_(False), images, torch.tensor([0, 3, 6]))
    assert activations.shape == gradients.shape
    assert min(activations.shape[-2:]) >= 7
    assert gradients.abs().amax(dim=(1, 2, 3)).min() > 0
    # The grid is laid out like the picture: a change in one corner shows there most.
    if isinstance(settings.weights, FileWeights) and settings.weights.package is not None:
        load_pretrained(model, settings, size, name)  # a deep network of random weights sees everything everywhere
        activations, _ = activations_and_gradients(model, images, torch.tensor([0, 3, 6]))
    corner = pixels.copy()
    part = size // 7
    corner[:, :part, -part:] = 255 - corner[:, :part, -part:]
    changed, _ = activations_and_gradients(model, model.normalize(corner), torch.tensor([0, 3, 6]))
    difference = (changed - activations).abs().sum(dim=(0, 1))
    height, width = difference.shape
    assert (difference.sum(1) * torch.arange(height)).sum() / difference.sum() < (height - 1) / 2 - 0.2
    assert (difference.sum(0) * torch.arange(width)).sum() / difference.sum() > (width - 1) / 2 + 0.2


def dataset_settings(name: str, tmp_path: Path) -> dict[str, object]:
    own = [entry for entry in PARAMS["datasets"].values() if entry["loader"] == name]
    raw = own[0] if own else {}
    raw = raw | {
        "loader": name,
        "source": "requirements.lock",
        "image_size": 32,
    }
    if DATASETS[name].settings.model_fields["split"].is_required():
        raw["split"] = {"validation": 0.2, "test": 0.2}
    if name == "shapes":
        raw |= {"images": 60, "area": {"smallest": 0.1, "largest": 0.25}}
    if name == "image_folder":
        raw |= {"source": str(folder_of_pictures(tmp_path / "pictures", per_class=6)), "boxes": None}
    if name in PUBLISHERS:
        raw |= {"folder": str(tmp_path / name), "images": PUBLISHERS[name](tmp_path / name)}
        if "masks" in DATASETS[name].settings.model_fields:
            raw["masks"] = True
    if name in FOLDERS:
        FOLDERS[name](tmp_path / name)
        raw |= {"folder": str(tmp_path / name), "labels": "devkit", "boxes": True, "images": "all"}
    return raw


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
def test_dataset(name: str, tmp_path: Path) -> None:
    loader = DATASETS[name]
    settings = params.check(f"datasets.{name}", loader.settings, dataset_settings(name, tmp_path))
    collection, again = loader.load(settings, 5), loader.load(settings, 5)
    count = len(collection.images)
    assert len(collection.names) == len(collection.labels) == count
    assert len(set(collection.names)) == count
    assert collection.labels.dtype == np.int64
    labels, classes = set(collection.labels.tolist()), set(range(len(collection.class_names)))
    assert labels <= classes if collection.only_tests else labels == classes
    assert list(collection.images) == list(again.images)
    assert collection.images[count - 1] == list(collection.images)[-1]
    assert collection.names == again.names
    assert collection.masks == again.masks
    assert collection.boxes == again.boxes
    for truth in (collection.masks, collection.boxes, collection.splits):
        assert truth is None or len(truth) == count
    for number in range(0, count, max(1, count // 20)):
        image = open_image(collection.images[number], collection.names[number])
        encoded = collection.masks[number] if collection.masks is not None else None
        if encoded is not None:
            mask = np.asarray(open_image(encoded, "mask"))
            assert mask.shape == image.size[::-1]
            assert 0 < (mask > 0).mean() < 0.5
        for box in collection.boxes[number] if collection.boxes is not None else []:
            assert 0 <= box.left < box.right <= image.width
            assert 0 <= box.top < box.bottom <= image.height
    expected = {"test"} if collection.only_tests else {"train", "validation", "test"}
    assert collection.splits is None or expected - {"validation"} <= set(collection.splits) <= expected
    assert collection.masks is None or any(mask is not None for mask in collection.masks)
    splits = draw_splits(collection, settings.split, 5, name)
    for _, of_class in splits.groupby("label"):
        assert set(of_class["split"]) == expected
