"""Training a classifier on one dataset, with the benchmark's transforms as augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from pipeline.core.batches import batch_size, out_of_memory, with_smaller_batches
from pipeline.core.device import threads
from pipeline.core.errors import UserError
from pipeline.core.parallel import in_order
from pipeline.core.randomness import generator, stream_seed
from pipeline.data.decode import Pixels
from pipeline.data.perturb import apply_each
from pipeline.data.pictures import Selection
from pipeline.data.transforms import IDENTITY, TRANSFORMS
from pipeline.models.build import seeded
from pipeline.models.classifier import Classifier
from pipeline.models.recipe import TrainingSettings

Labels = npt.NDArray[np.int64]
CURVE = ["epoch", "train_loss", "validation_loss", "validation_accuracy", "learning_rate"]
"""Columns of the table of a training's epochs."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, H, W, 3), in memory or read where they are indexed, and their labels, int64 (N,)."""

    images: Pixels | Selection
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Augmentation:
    """What is done to some images: names of transforms (N,), and their magnitudes, float64 (N,), NaN for none."""

    names: npt.NDArray[Any]
    magnitudes: npt.NDArray[np.float64]


def draw_augmentation(count: int, side: int, rng: np.random.Generator) -> Augmentation:
    """Draw one transform (or none) and one magnitude for every image, all equally likely (TrivialAugment style).

    Source: S. Müller and F. Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, 2021, with
    the paper's list of transforms.
    """
    choices = [IDENTITY, *TRANSFORMS]
    names = np.array(choices, dtype=object)[rng.integers(len(choices), size=count)]
    ladders = {name: transform.ladder(side) or [np.nan] for name, transform in TRANSFORMS.items()}
    ladders[IDENTITY] = [np.nan]
    places = rng.random(count)
    magnitudes = [ladders[name][int(place * len(ladders[name]))] for name, place in zip(names, places, strict=True)]
    return Augmentation(names, np.array(magnitudes))


def _optimizer(module: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, betas=(settings.momentum, 0.999), weight_decay=decay)


def evaluate(model: Classifier, split: Split, precision: str = "float32") -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy, in [0, 1], of a model in evaluation mode."""
    return _judge(_batchwise(model, model, split, precision), split.labels)


def _batchwise(
    model: Classifier, evaluated: Callable[[torch.Tensor], torch.Tensor], split: Split, precision: str
) -> torch.Tensor:
    """Return what the model, or a part of it, gives for all images of a split: float32, on the CPU."""
    on, side = model.mean.device, split.images.shape[1]
    parts: list[torch.Tensor] = []

    def next_part() -> torch.Tensor:
        start = sum(map(len, parts))
        images = split.images[start : start + batch_size(side, on)]
        with torch.inference_mode(), _in_precision(on, precision):
            return evaluated(model.normalize(images)).float().cpu()

    while sum(map(len, parts)) < len(split):
        parts.append(with_smaller_batches(next_part, side, on))
    return torch.cat(parts)


def _judge(outputs: torch.Tensor, labels: Labels) -> tuple[float, float]:
    expected = torch.tensor(labels)
    return float(F.cross_entropy(outputs, expected)), float((outputs.argmax(1) == expected).double().mean())


def _in_precision(on: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(on.type, PRECISIONS[precision], enabled=precision != "float32")


class Learner:
    """What an epoch of training does with a batch: the whole network, or its classifier behind a frozen backbone.

    A frozen backbone stays in evaluation mode, its batch statistics included. Without augmentation its features are the
    same in every epoch, and computed once.
    """

    def __init__(self, model: Classifier, training: Split, validation: Split, settings: TrainingSettings) -> None:
        """Prepare a model for training; see `train`."""
        self.model, self.settings = model, settings
        self.training, self.validation = training, validation
        self.frozen = settings.backbone == "frozen"
        model.requires_grad_(not self.frozen)
        self.trained: nn.Module = model.classifier().requires_grad_() if self.frozen else model
        self.optimizer = _optimizer(self.trained, settings)
        self.scaler = torch.amp.GradScaler(model.mean.device.type, enabled=settings.precision == "float16")
        self._features: torch.Tensor | None = None
        self._validation_features: torch.Tensor | None = None
        if self.frozen:
            self._validation_features = _batchwise(model, model.features, validation, settings.precision)
            if not settings.augment:
                self._features = _batchwise(model, model.features, training, settings.precision)

    def inputs(self, positions: npt.NDArray[np.int64], drawn: Augmentation | None) -> Pixels | torch.Tensor:
        """Return what `step` needs of some images: pixels, or features where they are known."""
        if self._features is not None:
            return self._features[torch.from_numpy(positions)]
        images = self.training.images[positions]
        return images if drawn is None else apply_each(images, drawn.names, drawn.magnitudes)

    def step(self, inputs: Pixels | torch.Tensor, labels: Labels) -> float:
        """Take one step of the optimiser; return the loss before it."""
        on = self.model.mean.device
        with _in_precision(on, self.settings.precision):
            loss = F.cross_entropy(self._logits(inputs).float(), torch.tensor(labels).to(on))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.settings.clip_value is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_value_(self.trained.parameters(), self.settings.clip_value)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()

    def _logits(self, inputs: Pixels | torch.Tensor) -> torch.Tensor:
        if isinstance(inputs, torch.Tensor):
            return self.trained(inputs.to(self.model.mean.device))
        images = self.model.normalize(inputs)
        if not self.frozen:
            return self.model(images)
        with torch.no_grad():
            features = self.model.features(images)
        return self.trained(features)

    def validate(self) -> tuple[float, float]:
        """Return loss and accuracy on the validation split."""
        if self._validation_features is None:
            return evaluate(self.model, self.validation, self.settings.precision)
        with torch.inference_mode():
            outputs = self.trained(self._validation_features.to(self.model.mean.device)).float().cpu()
        return _judge(outputs, self.validation.labels)


Batch = tuple[npt.NDArray[np.int64], Augmentation | None]


def _batches(learner: Learner, rng: np.random.Generator) -> Iterator[Batch]:
    """Draw the batches of an epoch: positions of their images, and what is done to them."""
    split, settings = learner.training, learner.settings
    order = rng.permutation(len(split))
    for start in range(0, len(order), settings.batch_size):
        positions = order[start : start + settings.batch_size]
        # A last batch of one image is dropped: batch norm cannot take it.
        if len(positions) > 1:
            yield positions, draw_augmentation(len(positions), split.images.shape[1], rng) if settings.augment else None


def _train_epoch(learner: Learner, step: int, rng: np.random.Generator) -> tuple[float, int]:
    """Train for one epoch, ``step`` steps into the training; return the mean loss and the number of steps."""
    optimizer, settings = learner.optimizer, learner.settings
    learner.trained.train()
    losses: list[float] = []
    rates = [group["lr"] for group in optimizer.param_groups]

    def prepare(batch: Batch) -> tuple[Pixels | torch.Tensor, Labels]:
        return learner.inputs(*batch), learner.training.labels[batch[0]]

    # While one batch is computed, the next ones are augmented: by one thread beside a CPU's own, by all beside a GPU.
    helpers = 1 if learner.model.mean.device.type == "cpu" else threads()
    with closing(in_order(prepare, _batches(learner, rng), helpers)) as prepared:
        for number, (inputs, labels) in enumerate(prepared, step + 1):
            warm = min(1.0, number / (settings.warmup_steps + 1))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * warm
            losses.append(_within_memory(learner, inputs, labels))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    learner.model.eval()
    return float(np.mean(losses)), len(losses)


def _within_memory(learner: Learner, inputs: Pixels | torch.Tensor, labels: Labels) -> float:
    try:
        return learner.step(inputs, labels)
    except Exception as error:
        if not out_of_memory(error):
            raise
    # A smaller batch would be another training, so it is the user's to choose.
    raise UserError(f"training: memory ran out on {learner.model.mean.device} for a batch of {len(labels)} images; "
                    "allowed: a smaller batch_size, precision bfloat16, or a larger device")  # fmt: skip


def train(
    model: Classifier, training: Split, validation: Split, settings: TrainingSettings, seed: int,
    after_epoch: Callable[[int], None],
) -> pd.DataFrame:  # fmt: skip
    """Train a model in place.

    The learning rate falls when the validation loss stops falling; the test split plays no part.

    Args:
        model: on its device, with the weights to start from.
        training: what is learned from.
        validation: what the learning rate is decided on.
        settings: the recipe.
        seed: of the order, the augmentation and dropout.
        after_epoch: called with the number of each epoch (from 1) once it is done; this is where checkpoints are
            taken.

    Returns:
        A table with the columns `CURVE` and one line an epoch.

    Raises:
        UserError: a loss is no longer finite.
    """
    learner = Learner(model, training, validation, settings)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        learner.optimizer, factor=settings.plateau_factor, patience=settings.plateau_patience
    )
    lines = []
    steps = 0
    with (
        seeded(stream_seed(seed, "dropout"), model.mean.device),
        tqdm(total=settings.epochs, desc="train", unit="epoch", disable=None) as bar,
    ):
        for epoch in range(1, settings.epochs + 1):
            rate = learner.optimizer.param_groups[0]["lr"]
            loss, taken = _train_epoch(learner, steps, generator(seed, "epoch", epoch))
            steps += taken
            validation_loss, accuracy = learner.validate()
            if not (math.isfinite(loss) and math.isfinite(validation_loss)):
                raise UserError(
                    f"training: found a loss of {loss:g} ({validation_loss:g} on the validation split) after epoch "
                    f"{epoch}; allowed: finite ones (a lower learning_rate, a clip_value)"
                )
            schedule.step(validation_loss)
            lines.append((epoch, loss, validation_loss, accuracy, rate))
            after_epoch(epoch)
            bar.set_postfix(loss=f"{validation_loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
            bar.update()
    return pd.DataFrame(lines, columns=CURVE)
