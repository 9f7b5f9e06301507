"""Training: learning something, repeating it, and a backbone that stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.batches import forget_memory
from pipeline.core.errors import UserError
from pipeline.core.randomness import generator
from pipeline.data.perturb import apply_each
from pipeline.data.transforms import TRANSFORMS
from pipeline.models.classifier import Classifier
from pipeline.models.learner import Learner, Split, draw_augmentation, evaluate
from pipeline.models.recipe import TrainingSettings
from pipeline.models.training import train
from tests.conftest import CLASSES, SIDE, small_convnet
from tests.models.networks import small_resnet

RECIPE = TrainingSettings(
    epochs=10,
    batch_size=16,
    head=(),
    backbone="trained",
    precision="float32",
    optimizer="adam",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=0.0,
    warmup_steps=3,
    clip_value=1.0,
    plateau_patience=1,
    plateau_factor=0.5,
    augment=True,
)


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
        curves.append(train(model, patterns(96, 0), patterns(32, 1), RECIPE, seed=3, after_epoch=epochs.append))
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
    model = small_resnet(2, SIDE, seed, head=FROZEN.head)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(0.1)  # training would move it
    return model


@pytest.mark.parametrize("augmented", [True, False])
def test_a_frozen_backbone_stays_as_it_is(augmented: bool) -> None:
    recipe = FROZEN.model_copy(update={"augment": augmented})
    model = frozen_model()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    curve = train(model, patterns(96, 0), patterns(32, 1), recipe, seed=3, after_epoch=lambda _: None)
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
    train(model, patterns(96, 0), patterns(32, 1), recipe, seed=3, after_epoch=lambda _: None)
    assert sum(seen) == passes * 96 + 32


def count_images(function: Callable[..., torch.Tensor], seen: list[int]) -> Callable[..., torch.Tensor]:
    def counted(images: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(len(images))
        return function(images, **options)

    return counted


def test_cached_features_train_as_the_images_do() -> None:
    recipe = FROZEN.model_copy(update={"augment": False})
    cached, plain = frozen_model(), frozen_model()
    curve = train(cached, patterns(96, 0), patterns(32, 1), recipe, seed=3, after_epoch=lambda _: None)
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


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["frozen", "trained"])
def test_mixed_precision_trains_as_well(backbone: str) -> None:
    recipe = FROZEN.model_copy(update={"backbone": backbone, "precision": "bfloat16"})
    model = frozen_model()
    curve = train(model, patterns(96, 0), patterns(32, 1), recipe, seed=3, after_epoch=lambda _: None)
    assert all(tensor.dtype == torch.float32 for tensor in model.parameters())
    full = recipe.model_copy(update={"precision": "float32"})
    exact = train(frozen_model(), patterns(96, 0), patterns(32, 1), full, seed=3, after_epoch=lambda _: None)
    assert not curve.equals(exact)
    np.testing.assert_allclose(curve["train_loss"].iloc[0], exact["train_loss"].iloc[0], rtol=0.05)


def test_training_that_diverges_is_one_line() -> None:
    recipe = RECIPE.model_copy(
        update={"learning_rate": 1e30, "clip_value": None, "optimizer": "sgd", "warmup_steps": 0}
    )
    with pytest.raises(UserError, match=r"training: found a loss of (nan|inf).* after epoch 1; allowed: finite ones"):
        train(frozen_model(), patterns(32, 0), patterns(16, 1), recipe, seed=3, after_epoch=lambda _: None)


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
            UserError, match=r"training on cpu: memory ran out for a batch of 16 images; allowed: a smaller batch_size"
        ):
            train(model, patterns(32, 0), images, RECIPE, seed=3, after_epoch=lambda _: None)
    finally:
        forget_memory()


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
