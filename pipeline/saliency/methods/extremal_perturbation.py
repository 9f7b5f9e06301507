"""Extremal perturbation: the smooth mask of a given area outside of which blurring harms the class logit least.

Source: R. Fong et al., Understanding Deep Networks via Extremal Perturbations and Smooth Masks, 2019, with the choices
of TorchRay: the logit is the reward, the mask preserves (what it covers is kept, the rest blurred), every other
evaluation sees the image mirrored, and the mask returned is the one before the last step. Its area is that of the mask
with its margin, so that it takes a greater part of a small image. Two things are our own. Pixels that are equal share
what the area asks of them, where TorchRay decides by their order in memory. And a row whose logit does not answer to
the mask at all gets zeros: nothing but the area would have shaped it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, model_validator

from pipeline.core.batches import batches
from pipeline.core.params import Fraction, Positive, Steps
from pipeline.models.classifier import Classifier
from pipeline.saliency.gradients import gradient
from pipeline.saliency.method import Cost, Method, MethodSettings
from pipeline.saliency.smooth_masks import SmoothMasks

MOMENTUM = 0.9
"""Of gradient ascent; a gradient enters with 1 - MOMENTUM, but for the first."""
LEVELS = 8
"""Images in the pyramid, from the most blurred to the picture itself."""
PENALTY, GROWTH = 300.0, 1.0035
"""Weight of the area, and by how much it grows with every iteration."""
LEVEL = 2**-16
"""Mask values are equal when they round to the same multiple of this: the last bit of a float would rank by chance."""

Pixels = Annotated[int, Field(ge=1, le=1024)]


class Settings(MethodSettings):
    """What the mask is like, and how it is found.

    Attributes:
        iterations: one gradient each.
        area: part of the mask, with its margin, that is kept.
        learning_rate: of gradient ascent.
        step: pixels from one cell of the mask to the next.
        sigma: how far a cell reaches, in pixels; at least two steps.
        max_blur: deviation of the strongest blur, in pixels.
    """

    iterations: Steps
    area: Fraction
    learning_rate: Positive = 0.01
    step: Pixels = 7
    sigma: Pixels = 21
    max_blur: Annotated[float, Field(gt=0, le=1000)] = 20.0

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if self.sigma < 2 * self.step:
            raise ValueError(f"a sigma of at least two steps, here {2 * self.step}")
        return self


def blur_matrix(size: int, sigma: float) -> torch.Tensor:
    """Return the matrix that blurs a column of ``size`` pixels, zeros around it: float32 (size, size)."""
    reach = math.ceil(4 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    total = torch.exp(-0.5 * (offsets / sigma) ** 2).sum() if sigma else 1.0
    distance = (torch.arange(size)[:, None] - torch.arange(size)[None, :]).abs().double()
    kernel = torch.exp(-0.5 * (distance / sigma) ** 2) if sigma else torch.eye(size, dtype=torch.float64)
    return torch.where(distance <= reach, kernel / total, 0.0).float()


def blur_pyramid(images: torch.Tensor, max_blur: float) -> torch.Tensor:
    """Return images from the most blurred to themselves, (N, LEVELS, 3, H, W)."""
    levels = []
    for level in range(LEVELS):
        sigma = max_blur * (1 - level / (LEVELS - 1))
        down, across = (blur_matrix(images.shape[at], sigma).to(images.device) for at in (-2, -1))
        levels.append(down @ images.contiguous() @ across.T)
    return torch.stack(levels, dim=1)


def perturb(pyramid: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images blurred where a mask is low, and their derivatives by the mask, both (N, 3, H, W).

    Between two levels of the pyramid (N, L, 3, H, W) the masks (N, H, W), in [0, 1], interpolate linearly.
    """
    last = pyramid.shape[1] - 1
    place = masks * last
    level = place.floor()
    chosen = level.long()[:, None, None].expand(-1, 1, *pyramid.shape[2:])
    weaker = pyramid.gather(1, chosen)[:, 0]
    difference = pyramid.gather(1, (chosen + 1).clamp(max=last))[:, 0] - weaker
    return weaker + (place - level)[:, None] * difference, last * difference


def area_gradient(masks: torch.Tensor, area: float) -> torch.Tensor:
    """Return the gradient of minus the mean squared difference between sorted masks and a mask of an area.

    That mask is 1 on the highest values, as many as the area says, and 0 below; it is sorted like the masks, so each
    pixel is drawn towards what stands at its rank. Pixels that are equal have equal shares in their ranks.

    Args:
        masks: (N, S, S).
        area: in (0, 1).

    Returns:
        (N, S, S).
    """
    flat = masks.flatten(1)
    ranked = (flat / LEVEL).round()
    low = int(flat.shape[1] * (1 - area))
    lowest_kept = ranked.kthvalue(min(low + 1, flat.shape[1]), dim=1, keepdim=True).values
    above, equal = ranked > lowest_kept, ranked == lowest_kept
    share = (flat.shape[1] - low - above.sum(dim=1, keepdim=True)) / equal.sum(dim=1, keepdim=True)
    goal = above + equal * share
    return (2 / flat.shape[1] * (goal - flat)).view_as(masks)


def optimize(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, cells: torch.Tensor, *, settings: Settings
) -> torch.Tensor:
    """Return the masks of the last iteration, before its step.

    Args:
        model: in evaluation mode, parameters without gradient.
        images: float32 (N, 3, S, S), normalised; few enough for one evaluation.
        targets: int64 (N,).
        cells: where to begin, (N, cells, cells) in [0, 1].
        settings: see `Settings`.

    Returns:
        float32 (N, S, S) in [0, 1].
    """
    generator = SmoothMasks(images.shape[-1], settings.step, settings.sigma, images.device)
    inside = (slice(None), generator.picture, generator.picture)
    pyramid = blur_pyramid(images, settings.max_blur)
    velocity = torch.zeros_like(cells)
    answered = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for number in range(settings.iterations):
        masks, total = generator.make(cells)
        inputs, slopes = perturb(pyramid, masks[inside])
        if number % 2 == 0:
            by_input = gradient(model, inputs.flip(3), targets, "logit").flip(3)
        else:
            by_input = gradient(model, inputs, targets, "logit")
        reward = (by_input * slopes).sum(dim=1)
        answered |= reward.flatten(1).any(dim=1)
        by_mask = PENALTY * GROWTH**number * area_gradient(masks, settings.area)
        by_mask[inside] += reward
        ascent = generator.pull_back(by_mask, cells, masks, total)
        velocity = MOMENTUM * velocity + (1 - MOMENTUM) * ascent if number else ascent
        cells = (cells + settings.learning_rate * velocity).clamp(0, 1)
    return torch.where(answered[:, None, None], masks[inside], 0.0)


def explain(
    model: Classifier, images: torch.Tensor, targets: torch.Tensor, settings: Settings, seeds: Sequence[int]
) -> torch.Tensor:
    """Return the maps, float32 (N, H, W) in [0, 1]; nothing is random."""
    side = math.ceil(images.shape[-1] / settings.step)
    maps = []
    for part in batches(len(images), images.shape[-1], images.device):
        begin = images.new_ones(part.stop - part.start, side, side)
        maps.append(optimize(model, images[part], targets[part], begin, settings=settings))
    return torch.cat(maps)


def cost(settings: Settings) -> Cost:
    """One gradient per iteration."""
    return Cost(gradient=settings.iterations)


METHOD = Method(Settings, explain, "unit", cost, storage="float16")
