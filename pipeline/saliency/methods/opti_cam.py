"""Opti-CAM: channels of one layer, weighted so that the image seen through the map has the highest class logit.

Source: H. Zhang et al., Opti-CAM: Optimizing saliency maps for interpretability, 2023, equations 5 to 7, with what the
authors' code adds: activations go through ReLU, all channels begin with the same weight, and the map is that of the
weights after the last step of Adam, not of the best one. The code stops early when the logits of a whole batch, added
up, fell since it last looked; here each row stops by its own logit (`check_every`), with the weights it was looked at
with, as the code does for a batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from pipeline.core.batches import batches
from pipeline.core.params import Positive, Steps
from pipeline.models.classifier import Classifier
from pipeline.saliency.cams import activations_alone, weighted_sum
from pipeline.saliency.masks import Masked, apply_masks
from pipeline.saliency.method import Cost, Method, MethodSettings

MEAN_DECAY, SQUARE_DECAY, ADAM_EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants."""

FLAT = 1e-5
"""Span of a map, as a part of its greatest value, up to which it is flat: what rounding leaves of a constant."""


class Settings(MethodSettings):
    """How the weights are found.

    Attributes:
        iterations: steps of Adam, one gradient each.
        learning_rate: of Adam, for the numbers whose softmax are the weights.
        masked: what the map multiplies.
        check_every: iterations between looks at a row's logit; a row stops when it fell since the last look (in the
            authors' code a tenth of the iterations). None to take every step.
    """

    iterations: Steps
    learning_rate: Positive
    masked: Masked = "picture"
    check_every: Steps | None = None


def scale(maps: torch.Tensor) -> torch.Tensor:
    """Return maps (N, H, W), none below zero, scaled to [0, 1] each; a flat one becomes zeros. Differentiable."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    flat = high - low <= FLAT * high
    return torch.where(flat, 0.0, (maps - low) / torch.where(flat, 1.0, high - low))


def combine(features: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Return the sum of channels (N, C, h, w) weighted by the softmax of ``u`` (N, C): (N, h, w)."""
    return weighted_sum(features, u.softmax(dim=1))


def enlarge(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return maps (N, h, w) resized bilinearly; the gradient is the same whenever it is computed."""
    if maps.device.type == "cpu":
        return F.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    # There the gradient of interpolate() adds up in no fixed order, and products of matrices have one.
    down, across = _bilinear(maps.shape[1], height, maps.device), _bilinear(maps.shape[2], width, maps.device)
    return down @ maps @ across.T


def _bilinear(small: int, large: int, device: torch.device) -> torch.Tensor:
    """Return the matrix (large, small) that resizes a column bilinearly."""
    columns = F.interpolate(torch.eye(small, device=device)[None], size=large, mode="linear", align_corners=False)
    return columns[0].T.contiguous()


def optimize(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, features: torch.Tensor, *, settings: Settings
) -> torch.Tensor:
    """Return what each row's weights are the softmax of.

    Adam works on every number by itself, so rows that are optimised together do not touch each other.

    Args:
        model: in evaluation mode, parameters without gradient.
        images: float32 (N, 3, H, W), normalised; few enough for one evaluation.
        targets: int64 (N,).
        features: float32 (N, C, h, w), the CAM layer's activations, none below zero.
        settings: see `Settings`.

    Returns:
        float32 (N, C).
    """
    u = features.new_zeros(features.shape[:2])
    mean, square = torch.zeros_like(u), torch.zeros_like(u)
    running = torch.ones(len(u), dtype=torch.bool, device=u.device)
    last_seen = torch.full((len(u),), -torch.inf, device=u.device)
    for step in range(settings.iterations):
        with torch.enable_grad():
            u.requires_grad_()
            masks = scale(enlarge(combine(features, u), *images.shape[2:]))
            masked = apply_masks(model, images, masks, settings.masked)
            logits = model(masked).gather(1, targets[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(logits.sum(), u)
        u = u.detach()
        if settings.check_every is not None and step % settings.check_every == 0:
            running &= logits.detach() >= last_seen
            last_seen = logits.detach()
            if not running.any():
                break
        # torch's own Adam would import its compiler.
        mean = MEAN_DECAY * mean + (1 - MEAN_DECAY) * gradient
        square = SQUARE_DECAY * square + (1 - SQUARE_DECAY) * gradient**2
        deviation = (square / (1 - SQUARE_DECAY ** (step + 1))).sqrt() + ADAM_EPSILON
        change = settings.learning_rate * mean / (1 - MEAN_DECAY ** (step + 1)) / deviation
        u = torch.where(running[:, None], u + change, u)
    return u


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps at the layer's own size, float32 (N, h, w) in [0, 1]; nothing is random.

    Enlarging and scaling them when they are read (`pipeline.saliency.map_file.enlarge`) gives the masks that were
    optimised: bilinear interpolation keeps what a scaling did before it.
    """
    activations = activations_alone(model, images)
    maps = []
    for part in batches(len(images), images.shape[-1], images.device):
        features = activations[part].relu().contiguous()
        maps.append(scale(combine(features, optimize(model, images[part], targets[part], features, settings=settings))))
    return torch.cat(maps)


def cost(settings: Settings) -> Cost:
    """One forward pass for the activations, and one gradient per iteration."""
    return Cost(forward=1, gradient=settings.iterations)


METHOD = Method(Settings, explain, "unit", cost, storage="float32", at_layer=True)
