"""Training a classifier on one dataset, with the benchmark's transforms as augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from tqdm import tqdm

from pipeline.compute import batch_size
from pipeline.images import Pixels
from pipeline.models import Classifier, seeded
from pipeline.params import TrainingSettings
from pipeline.randomness import generator, stream_seed
from pipeline.transforms import IDENTITY, TRANSFORMS, apply_each

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, H, W, 3), and their labels, int64 (N,)."""

    images: Pixels
    labels: Labels


def augment(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Give every image one transform (or none) and one magnitude, all equally likely (TrivialAugment style).

    Source: S. Müller and F. Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation, 2021, with
    the paper's list of transforms.
    """
    choices = [IDENTITY, *TRANSFORMS]
    names = np.array(choices, dtype=object)[rng.integers(len(choices), size=len(images))]
    ladders = {name: transform.ladder(images.shape[1]) or [np.nan] for name, transform in TRANSFORMS.items()}
    ladders[IDENTITY] = [np.nan]
    places = rng.random(len(images))
    magnitudes = [ladders[name][int(place * len(ladders[name]))] for name, place in zip(names, places, strict=True)]
    return apply_each(images, names, np.array(magnitudes))


def _optimizer(model: Classifier, settings: TrainingSettings) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, betas=(settings.momentum, 0.999), weight_decay=decay)


def evaluate(model: Classifier, split: Split) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy, in [0, 1], of a model in evaluation mode."""
    size = batch_size(split.images.shape[1], model.mean.device)
    with torch.inference_mode():
        logits = [model(model.normalize(split.images[i : i + size])) for i in range(0, len(split.images), size)]
    outputs = torch.cat(logits).cpu()
    labels = torch.tensor(split.labels)
    return float(F.cross_entropy(outputs, labels)), float((outputs.argmax(1) == labels).double().mean())


def _train_epoch(
    model: Classifier, split: Split, optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Train for one epoch, ``step`` steps into the training; return the mean loss."""
    model.train()
    losses: list[float] = []
    order = rng.permutation(len(split.images))
    rates = [group["lr"] for group in optimizer.param_groups]
    # The last batch is dropped when it has one image: batch norm cannot take it.
    starts = [start for start in range(0, len(order), settings.batch_size) if len(order) - start > 1]
    for number, start in enumerate(starts, step + 1):
        part = order[start : start + settings.batch_size]
        images = augment(split.images[part], rng) if settings.augment else split.images[part]
        warm = min(1.0, number / (settings.warmup_steps + 1))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * warm
        loss = F.cross_entropy(model(model.normalize(images)), torch.tensor(split.labels[part]).to(model.mean.device))
        optimizer.zero_grad()
        loss.backward()
        if settings.clip_value is not None:
            torch.nn.utils.clip_grad_value_(model.parameters(), settings.clip_value)
        optimizer.step()
        losses.append(loss.item())
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    model.eval()
    return float(np.mean(losses))


def train(
    model: Classifier, training: Split, validation: Split, settings: TrainingSettings, seed: int,
    after_epoch: Callable[[int], None],
) -> pd.DataFrame:  # fmt: skip
    """Train a model in place.

    The learning rate falls when the validation loss stops falling; the test split plays no part.

    Args:
        model: on its device, with fresh weights.
        training: what is learned from.
        validation: what the learning rate is decided on.
        settings: the recipe.
        seed: of the order, the augmentation and dropout.
        after_epoch: called with the number of each epoch (from 1) once it is done; this is where checkpoints are
            taken.

    Returns:
        A table with one line an epoch: epoch, train_loss, validation_loss, validation_accuracy, learning_rate.
    """
    optimizer = _optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=settings.plateau_factor, patience=settings.plateau_patience
    )
    lines = []
    steps_per_epoch = -(-len(training.images) // settings.batch_size)
    with (
        seeded(stream_seed(seed, "dropout")),
        tqdm(total=settings.epochs, desc="train", unit="epoch", disable=None) as bar,
    ):
        for epoch in range(1, settings.epochs + 1):
            rate = optimizer.param_groups[0]["lr"]
            rng = generator(seed, "epoch", epoch)
            loss = _train_epoch(model, training, optimizer, settings, (epoch - 1) * steps_per_epoch, rng)
            validation_loss, accuracy = evaluate(model, validation)
            schedule.step(validation_loss)
            lines.append(
                {
                    "epoch": epoch,
                    "train_loss": loss,
                    "validation_loss": validation_loss,
                    "validation_accuracy": accuracy,
                    "learning_rate": rate,
                }
            )
            after_epoch(epoch)
            bar.set_postfix(loss=f"{validation_loss:.3f}", accuracy=f"{accuracy:.3f}", refresh=False)
            bar.update()
    return pd.DataFrame(lines)
