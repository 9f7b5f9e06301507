"""What learns: a network, or its classifier behind a frozen backbone, and what it learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.core.batches import batch_size, with_smaller_batches
from pipeline.data.decode import Pixels
from pipeline.data.perturb import apply_each
from pipeline.data.pictures import Selection
from pipeline.data.transforms import IDENTITY, TRANSFORMS
from pipeline.models.classifier import Classifier
from pipeline.models.recipe import TrainingSettings

Labels = npt.NDArray[np.int64]
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
    device, side = model.mean.device, split.images.shape[1]
    parts: list[torch.Tensor] = []

    def next_part() -> torch.Tensor:
        start = sum(map(len, parts))
        images = split.images[start : start + batch_size(side, device)]
        with torch.inference_mode(), _in_precision(device, precision):
            return evaluated(model.normalize(images)).float().cpu()

    while sum(map(len, parts)) < len(split):
        parts.append(with_smaller_batches(next_part, side, device))
    return torch.cat(parts)


def _judge(outputs: torch.Tensor, labels: Labels) -> tuple[float, float]:
    expected = torch.tensor(labels)
    return float(F.cross_entropy(outputs, expected)), float((outputs.argmax(1) == expected).double().mean())


def _in_precision(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "float32")


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
        device = self.model.mean.device
        with _in_precision(device, self.settings.precision):
            loss = F.cross_entropy(self._logits(inputs).float(), torch.tensor(labels).to(device))
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
