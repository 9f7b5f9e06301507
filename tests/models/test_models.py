"""Models and training: weights in and out, CAM layers, and learning something."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.core.compute import forget_memory
from pipeline.core.errors import UserError
from pipeline.core.params import ModelSettings, TrainingSettings
from pipeline.core.randomness import generator
from pipeline.core.tables import write
from pipeline.data.decode import encode_png
from pipeline.data.perturb import apply_each
from pipeline.data.pictures import Pictures, Selection
from pipeline.data.transforms import TRANSFORMS
from pipeline.models.classifier import Classifier, build, checkpoint_epochs, load_state, save_state, state_name
from pipeline.models.training import Learner, Split, draw_augmentation, evaluate, train
from tests.conftest import CLASSES, SIDE, small_convnet

SETTINGS = ModelSettings(
    architecture="resnet18", arguments={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}, crop_fraction=1.0,
    mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), cam_layer="layer4.-1", cam_layout="channels_first",
    weights=None, recipes={}, checkpoints={},
)  # fmt: skip
RECIPE = TrainingSettings(
    epochs=10, batch_size=16, head=(), backbone="trained", precision="float32", optimizer="adam",
    learning_rate=0.01, momentum=0.9, weight_decay=0.0, warmup_steps=3, clip_value=1.0,
    plateau_patience=1, plateau_factor=0.5, augment=True,
)  # fmt: skip


def test_weights_come_back(tmp_path: Path) -> None:
    model, other = build(SETTINGS, 4, 32, 0), build(SETTINGS, 4, 32, 1)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(model(images), other(images))
    save_state(model, tmp_path / "a.safetensors")
    load_state(other, tmp_path / "a.safetensors")
    torch.testing.assert_close(model(images), other(images), atol=0, rtol=0)


def test_weights_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = build(SETTINGS, 4, 32, 0)
    with pytest.raises(UserError, match="there is no such checkpoint"):
        load_state(model, path)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_state(model, path)
    save_state(build(SETTINGS, 5, 32, 0), path)
    with pytest.raises(UserError, match=r"fc\.weight has shape \(5, 16\); allowed: \(4, 16\)"):
        load_state(model, path)
    state = load_file(path)
    del state["conv1.weight"]
    save_file(state, path)
    with pytest.raises(UserError, match=r"conv1\.weight is only in the model"):
        load_state(model, path)
    save_state(model, path)
    save_file(load_file(path) | {"extra": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="extra is only in the checkpoint"):
        load_state(model, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet81"}, r"no timm model is called 'resnet81', did you mean 'resnet\w+'\?"),
        ({"arguments": {"colour": 1}}, r"arguments: found \{'colour': 1\}; timm's resnet18 does not take them"),
        ({"cam_layer": "layer4.7"}, r"cam_layer: found 'layer4\.7'; there is no '7' \(here: 0\)"),
        ({"cam_layer": "layer9"}, r"there is no 'layer9' \(here: conv1, bn1"),
    ],
)
def test_bad_models(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(SETTINGS.model_copy(update=change), 4, 32, 0)


def test_a_wrong_layout_is_found_out() -> None:
    model = build(SETTINGS.model_copy(update={"cam_layout": "tokens"}), 4, 32, 0)
    with pytest.raises(UserError, match=r"cam_layout: found .tokens. for layer layer4\.-1, whose output has shape"):
        model.grid(torch.zeros(1, 16, 7, 7))


def test_tokens_are_laid_out_row_by_row_without_the_class_token() -> None:
    model = build(SETTINGS.model_copy(update={"cam_layout": "tokens"}), 4, 32, 0)
    tokens = torch.arange(10.0).view(1, 10, 1)  # a class token and a 3 by 3 grid
    assert model.grid(tokens)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_checkpoints_are_spaced_over_the_training() -> None:
    assert checkpoint_epochs(tuple(range(10, 100, 10)), 20) == {p: p // 5 for p in range(10, 100, 10)}
    assert checkpoint_epochs((1, 99), 10) == {1: 1, 99: 10}
    assert state_name(7) == "epoch_007"


def patterns(count: int, seed: int) -> Split:
    """Pictures with a bright square of one of two sizes: not changed by flips, turns or colours."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 40, (count, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        half = 3 + 5 * label
        image[12 - half : 12 + half, 12 - half : 12 + half] += 150
    return Split(images, labels.astype(np.int64))


def test_training_learns_repeats_and_spares_the_test_split() -> None:
    curves, outputs = [], []
    images = torch.from_numpy(np.random.default_rng(5).normal(size=(4, 3, SIDE, SIDE))).float()
    for _ in range(2):
        model = small_convnet(2).requires_grad_(True)
        epochs: list[int] = []
        curves.append(train(model, patterns(96, 0), patterns(32, 1), RECIPE, 3, epochs.append))
        assert epochs == list(range(1, 11))
        assert not model.training
        outputs.append(model(images).detach())
    assert curves[0].equals(curves[1])
    torch.testing.assert_close(outputs[0], outputs[1], atol=0, rtol=0)
    assert curves[0]["validation_loss"].iloc[-1] < curves[0]["validation_loss"].iloc[0]
    assert evaluate(model, patterns(40, 2))[1] > 0.9
    rates = curves[0]["learning_rate"]
    assert rates.iloc[0] == RECIPE.learning_rate
    assert (rates.diff().dropna() <= 0).all()


FROZEN = RECIPE.model_copy(update={"backbone": "frozen", "head": (12,)})


def frozen_model(seed: int = 0) -> Classifier:
    model = build(SETTINGS, 2, SIDE, seed, head=FROZEN.head)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(0.1)  # training would move it
    return model


@pytest.mark.parametrize("augmented", [True, False])
def test_a_frozen_backbone_stays_as_it_is(augmented: bool) -> None:
    recipe = FROZEN.model_copy(update={"augment": augmented})
    model = frozen_model()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    curve = train(model, patterns(96, 0), patterns(32, 1), recipe, 3, lambda _: None)
    changed = {name for name, tensor in model.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == model.classifier_weights() == {"fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"}
    assert curve["train_loss"].iloc[-1] < curve["train_loss"].iloc[0]
    loss, accuracy = evaluate(model, patterns(32, 1))
    assert curve["validation_loss"].iloc[-1] == pytest.approx(loss, rel=1e-4)
    assert curve["validation_accuracy"].iloc[-1] == accuracy


@pytest.mark.parametrize(("augmented", "passes"), [(False, 1), (True, 10)])
def test_features_of_a_frozen_backbone_are_computed_once_where_they_stay(
    augmented: bool, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = FROZEN.model_copy(update={"augment": augmented})
    model, seen = frozen_model(), []
    monkeypatch.setattr(model.network, "forward_features", count_images(model.network.forward_features, seen))
    train(model, patterns(96, 0), patterns(32, 1), recipe, 3, lambda _: None)
    assert sum(seen) == passes * 96 + 32


def count_images(function: Callable[..., torch.Tensor], seen: list[int]) -> Callable[..., torch.Tensor]:
    def counted(images: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(len(images))
        return function(images, **options)

    return counted


def test_cached_features_train_as_the_images_do() -> None:
    recipe = FROZEN.model_copy(update={"augment": False})
    cached, plain = frozen_model(), frozen_model()
    curve = train(cached, patterns(96, 0), patterns(32, 1), recipe, 3, lambda _: None)
    # The same steps by hand: order, warm-up and rates as the recipe says, on the whole network.
    learner = Learner(plain, patterns(96, 0), patterns(32, 1), recipe)
    learner._features = None
    step = 0
    for epoch in range(1, 4):
        rng = generator(3, "epoch", epoch)
        order = rng.permutation(96)
        learner.trained.train()
        losses = []
        for start in range(0, 96, recipe.batch_size):
            step += 1
            for group in learner.optimizer.param_groups:
                group["lr"] = recipe.learning_rate * min(1.0, step / (recipe.warmup_steps + 1))
            chosen = order[start : start + recipe.batch_size]
            losses.append(learner.step(learner.inputs(chosen, None), learner.training.labels[chosen]))
        learner.model.eval()
        assert curve["train_loss"].iloc[epoch - 1] == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("backbone", ["frozen", "trained"])
def test_mixed_precision_trains_as_well(backbone: str) -> None:
    recipe = FROZEN.model_copy(update={"backbone": backbone, "precision": "bfloat16"})
    model = frozen_model()
    curve = train(model, patterns(96, 0), patterns(32, 1), recipe, 3, lambda _: None)
    assert all(tensor.dtype == torch.float32 for tensor in model.parameters())
    full = recipe.model_copy(update={"precision": "float32"})
    exact = train(frozen_model(), patterns(96, 0), patterns(32, 1), full, 3, lambda _: None)
    assert not curve.equals(exact)
    np.testing.assert_allclose(curve["train_loss"].iloc[0], exact["train_loss"].iloc[0], rtol=0.05)


def test_training_that_diverges_is_one_line() -> None:
    recipe = RECIPE.model_copy(
        update={"learning_rate": 1e30, "clip_value": None, "optimizer": "sgd", "warmup_steps": 0}
    )
    with pytest.raises(UserError, match=r"training: found a loss of (nan|inf).* after epoch 1; allowed: finite ones"):
        train(frozen_model(), patterns(32, 0), patterns(16, 1), recipe, 3, lambda _: None)


def test_memory_that_runs_out_halves_what_is_evaluated_and_stops_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = frozen_model(), patterns(20, 0)
    expected, full = evaluate(model, images), Classifier.forward

    def small_memory(self: Classifier, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return full(self, inputs)

    monkeypatch.setenv("COSE_BATCH", "16")
    monkeypatch.setattr(Classifier, "forward", small_memory)
    try:
        assert evaluate(model, images) == pytest.approx(expected, rel=1e-5)
        with pytest.raises(
            UserError, match=r"memory ran out on cpu for a batch of 16 images; allowed: a smaller batch_size"
        ):
            train(model, patterns(32, 0), images, RECIPE, 3, lambda _: None)
    finally:
        forget_memory()


def test_pictures_that_do_not_fit_on_the_disk_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = [encode_png(np.zeros((8, 8, 3), np.uint8))] * 3
    write(
        "images", tmp_path / "images.parquet", pd.DataFrame({"image": range(3), "encoded": encoded, "mask": [None] * 3})
    )

    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.data.pictures.tempfile.TemporaryFile", Full)
    monkeypatch.setattr("pipeline.data.pictures.tempfile.gettempdir", lambda: "/somewhere")
    with pytest.raises(
        UserError, match=r"^/somewhere: 3 decoded images \(0\.0 GB\) could not be kept there \(No space"
    ):
        Pictures(tmp_path / "images.parquet", range(3), SIDE, 1.0)


def test_pictures_are_read_where_they_are_indexed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (150, SIDE, SIDE, 3), dtype=np.uint8)
    table = pd.DataFrame({"image": range(150), "encoded": [encode_png(one) for one in pixels], "mask": [None] * 150})
    write("images", tmp_path / "images.parquet", table)
    chosen = np.array([149, 3, 77, 3])
    selection = Selection(Pictures(tmp_path / "images.parquet", chosen, SIDE, 1.0), chosen)
    assert selection.shape == (4, SIDE, SIDE, 3)
    np.testing.assert_array_equal(selection[np.array([2, 0])], pixels[[77, 149]])
    np.testing.assert_array_equal(selection[1:], pixels[[3, 77, 3]])


def test_only_the_trained_part_is_stored(tmp_path: Path) -> None:
    trained, read = frozen_model(1), frozen_model(2)
    classifier = trained.classifier_weights()
    save_state(trained, tmp_path / "backbone.safetensors", set(trained.network.state_dict()) - classifier)
    save_state(trained, tmp_path / "trained.safetensors", classifier)
    assert set(load_file(tmp_path / "trained.safetensors")) == classifier
    load_state(read, tmp_path / "trained.safetensors")
    images = torch.randn(2, 3, SIDE, SIDE)
    torch.testing.assert_close(read(images), trained(images), atol=0, rtol=0)
    other = frozen_model(3)  # a state with all of its weights has no use for the backbone beside it
    save_state(other, tmp_path / "random.safetensors")
    load_state(read, tmp_path / "random.safetensors")
    torch.testing.assert_close(read(images), other(images), atol=0, rtol=0)
    (tmp_path / "backbone.safetensors").unlink()
    with pytest.raises(UserError, match=r"trained\.safetensors: .* conv1\.weight is only in the model"):
        load_state(read, tmp_path / "trained.safetensors")


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drawn = draw_augmentation(len(images), images.shape[1], rng)
    return apply_each(images, drawn.names, drawn.magnitudes)


def test_augmentation_draws_every_transform() -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 16, 16, 3), dtype=np.uint8)
    before = images.copy()
    changed = augment(images, np.random.default_rng(1))
    np.testing.assert_array_equal(images, before)
    untouched = (changed == images).all(axis=(1, 2, 3)).mean()
    assert 0.02 < untouched < 0.2  # identity is one of fourteen, and equalizing noise changes little
    np.testing.assert_array_equal(changed, augment(images, np.random.default_rng(1)))
    flipped = apply_each(images, np.array(["flip_lr"] * 400, dtype=object), np.full(400, np.nan))
    assert 0.02 < (changed == flipped).all(axis=(1, 2, 3)).mean() < 0.15
    assert len(TRANSFORMS) == 13


def test_small_convnet_is_the_same_every_time() -> None:
    images = torch.ones(1, 3, SIDE, SIDE)
    assert torch.equal(small_convnet()(images), small_convnet()(images))
    assert small_convnet()(images).shape == (1, CLASSES)
