"""Curves of the score while pixels are deleted or inserted, in the order of a map or of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torchvision.transforms.functional import gaussian_blur
from typing_extensions import override

from pipeline.core.params import Positive, Settings, Steps
from pipeline.metrics.faithfulness.batch import Answer, Batch, Probe
from pipeline.metrics.faithfulness.metric import Reading, quotient

Fill = Literal["black", "mean"]
Search = Literal["single", "greedy"]


@dataclass(frozen=True)
class Ends:
    """The pictures between which a curve runs.

    Attributes:
        fill: colour that pixels are deleted to, black or the picture's own mean colour; None if they are inserted.
        kernel: side of the Gaussian blur that pixels are inserted into, in pixels, odd; 0 where they are deleted.
        sigma: its deviation in pixels.
    """

    fill: Fill | None = None
    kernel: int = 0
    sigma: float = 0.0

    def of(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the curve starts from and what it ends in, each (B, 3, H, W)."""
        images = batch.images
        if self.fill is None:
            # The frame is mirrored; a picture smaller than the blur is blurred with the largest that fits.
            kernel = min(self.kernel, 2 * batch.side - 1)
            return gaussian_blur(images, [kernel, kernel], [self.sigma, self.sigma]), images
        colour = batch.black if self.fill == "black" else images.mean(dim=(2, 3), keepdim=True)
        return images, colour.expand_as(images)


def steps_of(side: int, steps: int, share: float = 1.0) -> torch.Tensor:
    """Return how many pixels have been changed at each point of a curve, from 0 to a share of all."""
    pixels, last = math.ceil(side**2 / steps), max(1, round(share * side**2))
    return torch.arange(0, last + pixels, pixels).clamp(max=last)


@dataclass(frozen=True)
class Curve(Probe):
    """Scores while pixels are changed in the descending order of the map, ties in a seeded order.

    Attributes:
        ends: what it starts from and ends in.
        steps: in which all pixels would be changed, as many at each; the last step takes what is left.
        share: of the pixels that is changed in all.
    """

    ends: Ends
    steps: int
    share: float = 1.0

    @override
    def forward(self, side: int) -> int:
        return len(steps_of(side, self.steps, self.share))

    @override
    def ask(self, batch: Batch) -> torch.Tensor:
        steps = steps_of(batch.side, self.steps, self.share).to(batch.images.device)
        start, end = self.ends.of(batch)

        def pictures(rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            changed = batch.places[rows] < steps[at, None, None]
            return torch.where(changed[:, None], end[rows], start[rows])

        return batch.scores(len(steps), pictures)


@dataclass(frozen=True)
class Limits(Probe):
    """Least and greatest area under a curve that orders of square patches were found to reach, two numbers per image.

    A patch is judged by the score when it alone is changed, and by the score when it alone is not. Both orders and
    their reverses are tried; ``greedy`` tries two more, which change at each step the patch that raises, or lowers,
    the score most. No order of patches is tried out of all that there are, and an order of pixels may do better still.

    Attributes:
        ends: what the curve starts from and ends in.
        patches: along a side of the image.
        search: ``single`` or ``greedy``.
    """

    ends: Ends
    patches: int
    search: Search

    @override
    def forward(self, side: int) -> int:
        count = self.patches**2
        greedy = 2 * (count * (count + 1) // 2 + 1) if self.search == "greedy" else 0
        return 2 * count + 4 * (count + 1) + greedy

    @override
    def width(self, side: int) -> int:
        return 2

    @override
    def ask(self, batch: Batch) -> torch.Tensor:
        trial = _Trial(batch, self.ends, self.patches)
        alone, but_one = trial.scores(trial.each), trial.scores(~trial.each)
        orders = [alone.argsort(dim=1, stable=True), but_one.argsort(dim=1, stable=True)]
        areas = [trial.area(order) for one in orders for order in (one, one.flip(1))]
        if self.search == "greedy":
            areas += [trial.greedy(greatest) for greatest in (False, True)]
        found = torch.stack(areas, dim=1)
        return torch.stack([found.amin(dim=1), found.amax(dim=1)], dim=1)


class _Trial:
    """Pictures of a batch whose patches are changed."""

    def __init__(self, batch: Batch, ends: Ends, patches: int) -> None:
        self.batch, (self.start, self.end) = batch, ends.of(batch)
        line = torch.arange(batch.side) * patches // batch.side
        self.of_pixel = (line[:, None] * patches + line[None, :]).to(batch.images.device)
        self.count, self.rows = patches**2, len(batch.images)
        each = torch.eye(self.count, dtype=torch.bool, device=batch.images.device)
        self.each = each.expand(self.rows, -1, -1)
        """(B, P, P): each patch changed alone."""

    def scores(self, changed: torch.Tensor) -> torch.Tensor:
        """Return the scores (B, S) with patches changed, bool (B, S, P)."""

        def pictures(rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
            pixels = changed[rows, at][:, self.of_pixel]
            return torch.where(pixels[:, None], self.end[rows], self.start[rows])

        return self.batch.scores(changed.shape[1], pictures)

    def area(self, order: torch.Tensor) -> torch.Tensor:
        """Return the area (B,) under the curve of an order of the patches, (B, P)."""
        places = order.argsort(dim=1)
        steps = torch.arange(self.count + 1, device=order.device)
        return area(self.scores(places[:, None, :] < steps[None, :, None]))

    def greedy(self, greatest: bool) -> torch.Tensor:
        """Return the area (B,) when each step changes the patch that leaves the greatest, or the least, score."""
        changed = torch.zeros(self.rows, self.count, dtype=torch.bool, device=self.start.device)
        curve = [self.scores(changed[:, None])[:, 0]]
        for step in range(self.count):
            left = (~changed).nonzero()[:, 1].view(self.rows, self.count - step)
            tried = changed[:, None].expand(-1, left.shape[1], -1).scatter(2, left[:, :, None], True)
            scores = self.scores(tried)
            best = scores.argmax(dim=1) if greatest else scores.argmin(dim=1)
            changed = tried[torch.arange(self.rows), best]
            curve.append(scores.gather(1, best[:, None])[:, 0])
        return area(torch.stack(curve, dim=1))


def area(curve: torch.Tensor) -> torch.Tensor:
    """Return the area under curves (N, n + 1) over [0, 1], by trapezoids of equal widths."""
    return (curve.sum(dim=1) - curve[:, 0] / 2 - curve[:, -1] / 2) / (curve.shape[1] - 1)


def raw(answers: Sequence[Answer], settings: object) -> list[Reading]:
    """Return the area under the curve."""
    return [Reading(area(torch.from_numpy(answers[0])).numpy())]


UNMOVED = "no order of patches that was tried changes the area"
LEAST_SPAN = 1e-6
"""Of areas; below it, dividing would show rounding alone."""


def between(values: Answer, worst: Answer, best: Answer) -> list[Reading]:
    """Return where areas lie between the worst, 0, and the best, 1."""
    span = np.where(np.abs(best - worst) < LEAST_SPAN, 0, best - worst)
    return [Reading(quotient(values - worst, span), UNMOVED)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("an odd number")
    return value


class DeletionSettings(Settings):
    """How pixels are deleted.

    Attributes:
        steps: in which all pixels are deleted, each of side²/steps pixels, rounded up (RISE, at 224 pixels: 224 steps).
        fill: colour that they are deleted to, black or the picture's own mean colour.
    """

    steps: Steps
    fill: Fill

    @property
    def ends(self) -> Ends:
        """What the curve runs between."""
        return Ends(fill=self.fill)


class InsertionSettings(Settings):
    """How pixels are inserted.

    Attributes:
        steps: in which all pixels are inserted, each of side²/steps pixels, rounded up (RISE: 28 or 224).
        kernel: side of the Gaussian blur that they are inserted into, in pixels, odd.
        sigma: its deviation in pixels.
    """

    steps: Steps
    kernel: Annotated[int, Field(ge=3, le=1023), AfterValidator(_odd)]
    sigma: Positive

    @property
    def ends(self) -> Ends:
        """What the curve runs between."""
        return Ends(kernel=self.kernel, sigma=self.sigma)


class PatchSettings(Settings):
    """Which orders of patches limit an area.

    Attributes:
        patches: along a side of the image.
        search: how good orders are looked for, see `Limits`.
    """

    patches: Annotated[int, Field(ge=2, le=32)]
    search: Search


class NormalizedDeletionSettings(DeletionSettings, PatchSettings):
    """Both."""


class NormalizedInsertionSettings(InsertionSettings, PatchSettings):
    """Both."""


def curve(settings: DeletionSettings | InsertionSettings) -> tuple[Probe, ...]:
    """Ask for the curve in the order of the map."""
    return (Curve(settings.ends, settings.steps),)


def limits(settings: NormalizedDeletionSettings | NormalizedInsertionSettings) -> Probe:
    """Ask for the areas that orders of patches reach."""
    return Limits(settings.ends, settings.patches, settings.search)
