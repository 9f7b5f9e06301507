"""Training a classifier on one dataset, with the benchmark's transforms as augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.core.batches import out_of_memory
from pipeline.core.device import threads
from pipeline.core.errors import UserError
from pipeline.core.parallel import in_order
from pipeline.core.randomness import generator, stream_seed
from pipeline.data.decode import Pixels
from pipeline.models.build import seeded
from pipeline.models.classifier import Classifier
from pipeline.models.learner import Augmentation, Labels, Learner, Split, draw_augmentation
from pipeline.models.recipe import TrainingSettings

CURVE = ["epoch", "train_loss", "validation_loss", "validation_accuracy", "learning_rate"]
"""Columns of the table of a training's epochs."""


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
    raise UserError(
        f"training on {learner.model.mean.device}",
        f"memory ran out for a batch of {len(labels)} images",
        expected="a smaller batch_size, precision bfloat16, or a larger device",
    )


def train(
    model: Classifier,
    training: Split,
    validation: Split,
    settings: TrainingSettings,
    *,
    seed: int,
    after_epoch: Callable[[int], None],
) -> pd.DataFrame:
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
        A table with the columns `CURVE` and one row per epoch.

    Raises:
        UserError: a loss is not finite any more.
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
                    "training",
                    f"found a loss of {loss:g} ({validation_loss:g} on the validation split) after epoch {epoch}",
                    expected="finite ones (a lower learning_rate, a clip_value)",
                )
            schedule.step(validation_loss)
            lines.append((epoch, loss, validation_loss, accuracy, rate))
            after_epoch(epoch)
            bar.set_postfix(loss=f"{validation_loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
            bar.update()
    return pd.DataFrame(lines, columns=CURVE)
