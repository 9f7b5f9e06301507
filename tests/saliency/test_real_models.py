"""Every model of the paper at its real input size: built, trained for a step, saved, loaded, explained by all methods.

A sample runs with the other tests; `make test-full` runs all of them: half an hour, and several GB of memory.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.core import params
from pipeline.models.build import build
from pipeline.models.learner import Learner, Split
from pipeline.models.network import Network
from pipeline.models.recipe import ModelSettings, TrainingSettings
from pipeline.models.trained import BACKBONE, load_state, save_state
from pipeline.saliency.cams import activations_and_gradients
from pipeline.saliency.map_file import enlarge
from pipeline.saliency.method import METHODS
from tests.settings import SMALL

PROFILE = yaml.safe_load(Path("profiles/paper.yaml").read_text())
MORE = re.search(
    r"```yaml\n# params.yaml\n(models:\n  densenet121:.*?)```", Path("docs/paper.md").read_text(), re.DOTALL
)
assert MORE is not None
MODELS = PROFILE["models"] | yaml.safe_load(MORE[1])["models"]
SAMPLE = {"resnet50": "cub200", "ibot_swin_tiny": "caltech101"}
"""Models that run with the other tests, and the recipes that they are trained by."""
SIDE, CLASSES = 224, 12
EXPECTED = {
    # by the paper's target layers
    "resnet": ("layer4", (7, 7)),
    "vit_base": ("blocks.11.norm1", (14, 14)),
    "vit_large": ("blocks.23.norm1", (14, 14)),
    "swin": ("layers.3.blocks.1.norm1", (7, 7)),
    "convnext": ("stages.3", (7, 7)),
    "densenet": ("features.norm5", (7, 7)),
    "vgg": ("features.30", (7, 7)),
}
"""Where class activation maps are read, and their grid, by the beginning of timm's name."""

GRIDS = {"random_map_14x14": (14, 14), "random_map_7x7": (7, 7)}
"""What maps are smaller than images without a CAM layer."""

TIMES = {"steps": 2, "samples": 12, "iterations": 2}
DEAR = {"ablation_cam", "score_cam"}
"""Methods that evaluate every channel of a layer; small networks of every family are enough for these."""
SETTINGS = {
    name: settings.model_copy(update={key: value for key, value in TIMES.items() if hasattr(settings, key)})
    for name, settings in SMALL.items()
    if name not in DEAR
}


def pictures(count: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    coarse = rng.random((count, 7, 7, 3))
    fine = np.stack([np.kron(one, np.ones((SIDE // 7, SIDE // 7, 1))) for one in coarse])
    return (fine * 230 + rng.random(fine.shape) * 25).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        pytest.param(name, dataset, marks=[] if SAMPLE.get(name) == dataset else pytest.mark.full)
        for name in MODELS
        for dataset in ("caltech101", "cub200")
    ],
)
def test_model(name: str, dataset: str, tmp_path: Path) -> None:
    settings = params.check(f"models.{name}", ModelSettings, MODELS[name])
    recipe = params.check("training", TrainingSettings, PROFILE["training"][dataset])
    network = Network(settings=settings.network(), classes=CLASSES, image_size=SIDE, head=recipe.head)
    model = build(network, seed=0)
    path, grid = next(one for beginning, one in EXPECTED.items() if settings.architecture.startswith(beginning))
    assert model.cam.path == path

    images, labels = pictures(2), np.array([3, 7])
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    learner = Learner(model, Split(images, labels), Split(images, labels), recipe)
    model.train(not learner.frozen)
    assert np.isfinite(learner.step(images, labels))
    model.eval()
    changed = {key for key, tensor in model.network.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed
    classifier = model.classifier_weights()
    assert changed <= classifier if learner.frozen else changed - classifier

    state = tmp_path / "trained.safetensors"
    if learner.frozen:
        save_state(model, tmp_path / f"{BACKBONE}.safetensors", set(before) - classifier)
    save_state(model, state, classifier if learner.frozen else None)
    del learner, before
    loaded = build(network, seed=1)
    load_state(loaded, state)
    inputs = loaded.normalize(images)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(inputs), model(inputs), atol=0, rtol=0)
    del model

    loaded.requires_grad_(False)
    targets = torch.tensor([3, 7])
    activations, gradients = activations_and_gradients(loaded, inputs, targets)
    assert activations.shape == gradients.shape
    assert gradients.shape[-2:] == grid
    assert gradients.abs().amax(dim=(1, 2, 3)).min() > 0
    for method, own in SETTINGS.items():
        maps = METHODS[method].explain(loaded, inputs, targets, own, [1, 2])
        expected = grid if METHODS[method].at_layer else GRIDS.get(method, (SIDE, SIDE))
        assert maps.shape == (2, *expected), method
        assert torch.isfinite(maps).all(), method
        assert maps.abs().max() <= 1, method
        large = np.stack([enlarge(one, SIDE, METHODS[method].values) for one in maps.numpy()])
        # A class may hang on no positive part of a fresh network's last layer: such a map is flat, as it should be.
        assert large.std(axis=(1, 2)).max() > 1e-3 or METHODS[method].at_layer or method == "uniform", method


def test_all_models_of_the_paper_are_there() -> None:
    assert len(PROFILE["models"]) == 13
    assert set(MODELS) - set(PROFILE["models"]) == {"densenet121", "vgg16"}
    assert set(SAMPLE) < set(MODELS)
