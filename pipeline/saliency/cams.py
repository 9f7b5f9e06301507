"""What the class activation maps share: activations with their gradients, and maps made from weighted channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pipeline.core.batches import batches
from pipeline.models.cam_layer import runs
from pipeline.models.classifier import Classifier
from pipeline.saliency.map_file import EPSILON
from pipeline.saliency.method import Cost


def cost(settings: Any) -> Cost:
    """One forward pass; what is differentiated behind the layer costs next to nothing."""
    return Cost(forward=1)


def _activations(model: Classifier, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kept: list[torch.Tensor] = []

    def make_leaf(layer: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        # The graph starts here: what comes before the layer is not differentiated.
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()  # what follows may work in place

    handle = model.cam_layer.register_forward_hook(make_leaf)
    try:
        with torch.enable_grad():
            score = model(images).gather(1, targets[:, None]).sum()
        if len(kept) != 1:
            raise runs(model.cam.path, len(kept))
        (gradient,) = torch.autograd.grad(score, kept[0])
    finally:
        handle.remove()
    return model.grid(kept[0].detach()), model.grid(gradient)


def activations_and_gradients(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the CAM layer's activations and the gradients of the class logits with respect to them.

    Args:
        model: in evaluation mode, parameters without gradient.
        images: float32 (N, 3, H, W), normalised.
        targets: int64 (N,).

    Returns:
        Two float32 tensors (N, C, h, w).
    """
    chosen = batches(len(images), images.shape[-1], images.device)
    parts = [_activations(model, images[part], targets[part]) for part in chosen]
    return torch.cat([a for a, _ in parts]), torch.cat([g for _, g in parts])


def activations_alone(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Return the CAM layer's activations, float32 (N, C, h, w), for normalised images (N, 3, H, W)."""
    kept: list[torch.Tensor] = []

    def note(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        kept.append(output.clone())  # what follows may work in place

    chosen = batches(len(images), images.shape[-1], images.device)
    handle = model.cam_layer.register_forward_hook(note)
    try:
        with torch.inference_mode():
            for part in chosen:
                model(images[part])
    finally:
        handle.remove()
    if len(kept) != len(chosen):
        raise runs(model.cam.path, len(kept) // len(chosen))
    return torch.cat([model.grid(one) for one in kept])


def scaled_map(maps: torch.Tensor) -> torch.Tensor:
    """Return maps at the layer's own size as grad-cam makes them: ReLU, then scaling to [0, 1].

    A flat map becomes zeros. `enlarge` brings them to the input's size when they are read.

    Args:
        maps: (N, h, w).

    Returns:
        float32 (N, h, w) in [0, 1].
    """
    positive = maps.relu()
    shifted = positive - positive.amin(dim=(1, 2), keepdim=True)
    return (shifted / (EPSILON + shifted.amax(dim=(1, 2), keepdim=True))).float()


def weighted_sum(activations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the sum of weighted channels, (N, h, w), from (N, C, h, w) and (N, C).

    No product of matrices: a CPU's library rounds those by where a row begins in memory, so by what is beside it.
    """
    return (weights[:, :, None, None] * activations).sum(dim=1)


def weighted_map(activations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the `scaled_map` of weighted channels, float32 (N, h, w), from (N, C, h, w) and (N, C)."""
    return scaled_map(weighted_sum(activations, weights))


def principal_map(values: torch.Tensor) -> torch.Tensor:
    """Return the projection of every place on the direction in which the channels vary most.

    The channels are centred; the projection is on the first right singular vector of the matrix (places, channels).
    Its sign, which is arbitrary, is turned so that the value of largest magnitude is positive.

    Args:
        values: (N, C, h, w).

    Returns:
        float64 (N, h, w).
    """
    # One by one: products of many matrices at once round each by where it begins in memory, as in `weighted_sum`.
    return torch.stack([_principal_map(one) for one in values])


def _principal_map(values: torch.Tensor) -> torch.Tensor:
    places = values.double().flatten(1).T
    places = places - places.mean(dim=0)
    if places.shape[0] <= places.shape[1]:
        # The eigenvectors of the smaller Gram matrix are enough, and are found many times faster.
        variances, left = torch.linalg.eigh(places @ places.T)
        projection = left[:, -1] * variances[-1].clamp(min=0).sqrt()
    else:
        directions = torch.linalg.eigh(places.T @ places).eigenvectors
        projection = places @ directions[:, -1]
    strongest = projection[projection.abs().argmax()]
    return torch.where(strongest < 0, -projection, projection).unflatten(0, values.shape[1:])
