"""Smooth masks with few parameters: a coarse grid of cells, enlarged by the smooth maximum of what reaches a pixel.

A cell reaches a pixel with a weight that is 1 near it and falls off with the distance like a Gaussian. The mask is
larger than the image by a margin, so that what lies at the image's border is worth as much as what lies inside.

Source: R. Fong et al., Understanding Deep Networks via Extremal Perturbations and Smooth Masks, 2019, section 3.2, with
the sizes and constants of TorchRay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.nn import functional as F

COLDNESS = 20.0
"""How near the smooth maximum comes to the maximum."""


class SmoothMasks:
    """Masks of one size, and the gradient of anything computed from them with respect to their cells.

    The gradient is written out: both directions go through one cell's neighbourhood after the other, in memory that
    stays in the cache, where autograd would keep some eighty numbers of every pixel.

    Attributes:
        cells: side of the grid of cells; a mask is made from float32 (N, cells, cells) in [0, 1].
        side: side of a whole mask, margin included.
        picture: where the image is in a whole mask, along each side.
    """

    def __init__(self, image_size: int, step: int, sigma: int, device: torch.device) -> None:
        """Prepare masks.

        Args:
            image_size: side of the images in pixels.
            step: from cell to cell, in pixels.
            sigma: how far a cell reaches, in pixels; at least two steps. It is the width of the margin too.
            device: to compute on.
        """
        self.cells = math.ceil(image_size / step)
        self.picture = slice(sigma, sigma + image_size)
        reach = 1 + math.ceil(sigma / step)
        self._around = 1 + math.ceil(2 * sigma / step)
        self._tiles = self.cells + 2 * (self._around - reach)
        self._step = step
        self.side = step * (self._tiles - 1) + 1
        self._neighbours = 2 * reach + 1
        # Pixels are grouped by their place in a tile of step x step: those of a group are as far from their neighbours.
        place = torch.arange(step, device=device)[None, :]
        cell = torch.arange(self._neighbours, device=device)[:, None]
        away = (place - sigma - step * (cell - self._around)).float()
        distance = (away[:, None, :, None] ** 2 + away[None, :, None, :] ** 2).sqrt()
        weights = torch.exp(-2 * (distance / sigma - 0.5).clamp(min=0) ** 2)
        self._weights = weights.reshape(self._neighbours**2, step * step)

    def _patches(self, padded: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield views (N, tiles, tiles): for every tile its first neighbour, then its second, ..."""
        for down in range(self._neighbours):
            for across in range(self._neighbours):
                yield padded[:, down : down + self._tiles, across : across + self._tiles]

    def _grouped(self, whole: torch.Tensor) -> torch.Tensor:
        """Return masks (N, side, side) by their pixels' place in a tile, (N, step², tiles²)."""
        missing = self._step - 1
        tiles = F.pad(whole, (0, missing, 0, missing)).unflatten(2, (-1, self._step)).unflatten(1, (-1, self._step))
        return tiles.permute(0, 2, 4, 1, 3).flatten(3, 4).flatten(1, 2)

    def _whole(self, grouped: torch.Tensor) -> torch.Tensor:
        """Return what `_grouped` was given."""
        tiles = grouped.unflatten(2, (self._tiles, -1)).unflatten(1, (self._step, -1))
        return tiles.permute(0, 3, 1, 4, 2).flatten(3, 4).flatten(1, 2)[:, : self.side, : self.side]

    def make(self, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return whole masks, and what `pull_back` needs of them.

        Args:
            cells: float32 (N, cells, cells) in [0, 1].

        Returns:
            float32 (N, side, side) in [0, 1], and (N, step², tiles²).
        """
        total = cells.new_zeros(len(cells), self._step**2, self._tiles**2)
        weighted, scaled, power = torch.zeros_like(total), torch.empty_like(total), torch.empty_like(total)
        for weights, patch in zip(self._weights, self._patches(F.pad(cells, (self._around,) * 4)), strict=True):
            torch.mul((COLDNESS * weights)[:, None], patch.flatten(1)[:, None], out=scaled)
            torch.exp(scaled, out=power)
            total += power
            weighted += scaled.mul_(power)
        return self._whole(weighted / (COLDNESS * total)).clamp(0, 1), total

    def pull_back(
        self, gradient: torch.Tensor, cells: torch.Tensor, masks: torch.Tensor, total: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient with respect to the cells of something whose gradient by the masks is known.

        Args:
            gradient: float32 (N, side, side).
            cells: what the masks were made from, (N, cells, cells).
            masks: (N, side, side), as `make` returned them.
            total: likewise.

        Returns:
            float32 (N, cells, cells).
        """
        padded = F.pad(cells, (self._around,) * 4)
        gathered = torch.zeros_like(padded)
        share = self._grouped(gradient) / total
        offset = 1 - COLDNESS * self._grouped(masks)
        scaled, power = torch.empty_like(total), torch.empty_like(total)
        for weights, patch, into in zip(self._weights, self._patches(padded), self._patches(gathered), strict=True):
            torch.mul((COLDNESS * weights)[:, None], patch.flatten(1)[:, None], out=scaled)
            torch.exp(scaled, out=power)
            # The derivative of a softmax-weighted mean by one of its members.
            slopes = scaled.add_(offset).mul_(power).mul_(share)
            into += torch.einsum("p,npt->nt", weights, slopes).unflatten(1, (self._tiles, -1))
        inside = slice(self._around, self._around + self.cells)
        return gathered[:, inside, inside]
