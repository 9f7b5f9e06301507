"""What a run will take, before anyone starts it: rows, evaluations, disk and time of every cell.

An evaluation is timed here and now, on a model with fresh weights, as the explain stage would make it; for a GPU that
is not here, its floating-point operations are counted. No data is needed. What else a map takes (transforming, the
method's own arithmetic, writing) is not timed but allowed for.

Other programs on the machine can only make a timing longer, so the shortest of several counts; on a CPU the processor
time, shared out over the threads, counts as a timing too. `Speed.spread` says how far they disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core.batches import batch_size, with_smaller_batches
from pipeline.core.device import workers
from pipeline.core.parallel import in_order
from pipeline.models.classifier import Classifier
from pipeline.models.fusion import fold, foldable, lay_out
from pipeline.saliency.cams import activations_alone
from pipeline.saliency.gradients import gradient
from pipeline.saliency.method import Cost, Method

SHARE = 0.75
"""Part of the explain stage's time that evaluations are assumed to take: about what docs/benchmarks.md found."""

CHEAP = 2
"""Evaluations up to which a map is made once to see how large it is; costlier methods' are as large as the image, or as
the CAM layer where they read it."""

SECONDS = 1.0
"""Spent on timing each kind of evaluation, at least."""

ROUNDS = 5
"""Timings taken of each kind of evaluation, at least; `LONGEST` seconds end them earlier."""

LONGEST = 5.0
"""Seconds after which no further timing of one kind of evaluation begins."""

SPREAD = 1.5
"""`Speed.spread` above which the estimate says that timings disagree."""

GPU_FLOPS = 10e12
"""Floating-point operations per second that a data-centre GPU is assumed to sustain in float32 without tensor cores:
half the peak of an NVIDIA A100 (19.5e12). Nobody has measured it for this benchmark."""


@dataclass(frozen=True)
class Speed:
    """How fast a model is evaluated, all threads together.

    Attributes:
        forward: milliseconds per image of a forward pass, in the shortest timing.
        gradient: milliseconds per image of a gradient, in the shortest timing.
        spread: the median elapsed time over the shortest timing, the larger of the two kinds; 1 if all agree.
    """

    forward: float
    gradient: float
    spread: float = 1.0


@dataclass(frozen=True)
class Operations:
    """Floating-point operations per image, a multiplication and an addition being two."""

    forward: float
    gradient: float


def prepared(model: Classifier, image_size: int) -> Classifier:
    """Make a model ready as the explain stage does, in place; return it."""
    model.requires_grad_(False)
    fold(model, foldable(model, image_size))
    lay_out(model)
    return model


def time_evaluations(model: Classifier, image_size: int) -> Speed:
    """Time forward passes and gradients of a prepared model on its device, each several times."""
    device, count = model.mean.device, workers(model.mean.device)

    def timings(evaluate: Callable[[torch.Tensor], Any]) -> tuple[float, float]:
        """Return the shortest timing in milliseconds per image, and the median elapsed time over it."""

        def once(_: int) -> int:
            size = batch_size(image_size, device)
            evaluate(torch.zeros(size, 3, image_size, image_size, device=device))
            return size

        def work(number: int) -> int:
            return with_smaller_batches(lambda: once(number), image_size, device)

        list(in_order(work, range(count), count))
        elapsed: list[float] = []
        processor: list[float] = []
        while not elapsed or (sum(elapsed) < LONGEST and (len(elapsed) < ROUNDS or sum(elapsed) < SECONDS)):
            start, used = time.perf_counter(), time.process_time()
            images = sum(in_order(work, range(count), count))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            elapsed.append(time.perf_counter() - start)
            processor.append((time.process_time() - used) / count)
        shortest = min(elapsed + processor) if device.type == "cpu" else min(elapsed)
        return 1e3 * shortest / images, float(np.median(elapsed)) / shortest

    def forward(images: torch.Tensor) -> None:
        with torch.inference_mode():
            model(images)

    def differentiate(images: torch.Tensor) -> None:
        gradient(model, images, torch.zeros(len(images), dtype=torch.int64, device=device), "softmax")

    once, spread = timings(forward)
    backward, backward_spread = timings(differentiate)
    return Speed(once, backward, max(spread, backward_spread))


def count_operations(model: Classifier, image_size: int) -> Operations:
    """Count the operations of a forward pass and of a gradient for one image, on the model's device."""
    image = torch.zeros(1, 3, image_size, image_size, device=model.mean.device).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        score = model(image.clone())[:, 0].sum()  # the counter cannot follow a gradient to what a module was given
        forward = counter.get_total_flops()
        torch.autograd.grad(score, image)
        return Operations(float(forward), float(counter.get_total_flops()))


def gpu_minutes(rows: int, cost: Cost, operations: Operations) -> float:
    """Return how long the maps of some rows would take on the GPU that `GPU_FLOPS` assumes."""
    evaluations = cost.forward * operations.forward + cost.gradient * operations.gradient
    return rows * evaluations / GPU_FLOPS / SHARE / 60


@dataclass(frozen=True)
class Weights:
    """What the weights of a model's parts take on disk.

    Attributes:
        backbone: bytes.
        features: what the backbone gives to the classifier, its number; 0 where timm names several classifiers.
    """

    backbone: int
    features: int

    def written(self, widths: tuple[int, ...], classes: int, checkpoints: int, frozen: bool) -> int:
        """Return the bytes that the train stage writes: `trained`, `random` and the checkpoints.

        Where a frozen backbone is what all but `random` have in common, it is written once.
        """
        layers = pairwise((self.features, *widths, classes))
        head = 4 * sum((inputs + 1) * outputs for inputs, outputs in layers)
        return (2 if frozen else checkpoints + 2) * self.backbone + (checkpoints + 2) * head


def measure_weights(model: Classifier) -> Weights:
    """Return what a model's weights take, its classifier being timm's own."""
    weights, classifier = model.network.state_dict(), model.classifier_weights()
    backbone = sum(tensor.nbytes for name, tensor in weights.items() if name not in classifier)
    matrices = [weights[name] for name in classifier if weights[name].ndim > 1]
    return Weights(backbone, matrices[0].shape[1] if len(matrices) == 1 else 0)


def cam_shape(model: Classifier, image_size: int) -> tuple[int, ...]:
    """Return the channels, height and width of what a model's CAM layer gives for one image."""
    image = torch.zeros(1, 3, image_size, image_size, device=model.mean.device)
    return tuple(activations_alone(model, image).shape[1:])


def bytes_per_map(method: Method, settings: Any, model: Classifier, image_size: int) -> int:
    """Return what one map takes on disk."""
    cost = method.cost(settings)
    shape: tuple[int, ...] = (image_size, image_size)
    if method.at_layer:
        shape = cam_shape(model, image_size)[1:]
    elif cost.forward + cost.gradient <= CHEAP:
        image = torch.zeros(1, 3, image_size, image_size, device=model.mean.device)
        target = torch.zeros(1, dtype=torch.int64, device=image.device)
        shape = tuple(method.explain(model, image, target, settings, [0]).shape[1:])
    return int(np.prod(shape)) * np.dtype(method.stored_as).itemsize


def minutes(rows: int, cost: Cost, speed: Speed) -> float:
    """Return how long the maps of some rows take to make."""
    evaluations = cost.forward * speed.forward + cost.gradient * speed.gradient
    return rows * evaluations / SHARE / 60_000
