"""Filling in removed pixels from their neighbours, as ROAD does (Rong et al., 2022, https://arxiv.org/abs/2202.00449).

A removed pixel is the weighted mean of its neighbours, 1/6 for each along an edge and 1/12 for each across a corner,
renormalised at the border of the picture. Neighbours may be removed themselves, so the removed pixels of a picture
solve a sparse linear system.

It is solved for many pictures at once by conjugate gradients, preconditioned with one V-cycle of multigrid. On the
coarse grids the known pixels are no boundary, which a coarse grid cannot follow, but a spring: a removed pixel is held
back by its known neighbours, and the sum of those weights is carried down. So the number of steps hardly depends on
the size or the shape of what is removed. The weights are those of a binomial blur without its centre, so that every
product with the matrix is four additions of shifted pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

COARSEST = 12
"""Side, in pixels, of a grid that is not halved again."""
SPRING = 0.7
"""Of the known neighbours' weights; below 1 because a correction gives way near them. Found by trying."""
SWEEPS = 3
"""Steps on the coarsest grid, before and after."""
MOST_STEPS = 200


def _blur(x: torch.Tensor) -> torch.Tensor:
    """Return sums over 3x3 windows with weights 1, 2 and 4, nothing lying outside."""
    for dim in (-2, -1):
        size = x.shape[dim]
        pairs = x.narrow(dim, 0, size - 1) + x.narrow(dim, 1, size - 1)
        summed = torch.empty_like(x)
        torch.add(pairs.narrow(dim, 0, size - 2), pairs.narrow(dim, 1, size - 2), out=summed.narrow(dim, 1, size - 2))
        for edge, pair in ((0, 0), (size - 1, size - 2)):
            torch.add(x.narrow(dim, edge, 1), pairs.narrow(dim, pair, 1), out=summed.narrow(dim, edge, 1))
        x = summed
    return x


def _halve(x: torch.Tensor) -> torch.Tensor:
    """Return sums at every other pixel with weights 1, 1/2 and 1/4: the transpose of `_double`, but for the border."""
    for dim in (-2, -1):
        size = x.shape[dim]
        even = x[..., ::2, :] if dim == -2 else x[..., ::2]
        odd = x[..., 1::2, :] if dim == -2 else x[..., 1::2]
        halves = odd * 0.5
        count = even.shape[dim] - 1
        summed = even.clone()
        summed.narrow(dim, 0, halves.shape[dim]).add_(halves)
        summed.narrow(dim, 1, count).add_(halves.narrow(dim, 0, count))
        if size % 2 == 0:  # the last pixel has one neighbour only, whose value it takes whole
            summed.narrow(dim, count, 1).add_(halves.narrow(dim, count, 1))
        x = summed
    return x


def _double(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return values between those of a coarse grid, bilinearly."""
    for dim, size in ((-2, height), (-1, width)):
        shape = list(x.shape)
        shape[dim] = size
        wide, count = x.new_empty(shape), x.shape[dim] - 1
        even, odd = (wide[..., at::2, :] if dim == -2 else wide[..., at::2] for at in (0, 1))
        even.copy_(x)
        torch.add(x.narrow(dim, 0, count), x.narrow(dim, 1, count), out=odd.narrow(dim, 0, count))
        odd.narrow(dim, 0, count).mul_(0.5)
        if size % 2 == 0:
            odd.narrow(dim, count, 1).copy_(x.narrow(dim, count, 1))
        x = wide
    return x


@dataclass(frozen=True)
class _Grid:
    """The system on one grid: ``diagonal * x - blur(x)`` where pixels are free, each (N, 1, H, W).

    Attributes:
        free: 1 where a pixel is to be found, 0 where it is known.
        diagonal: sum of a pixel's weights, its own among them.
        step: of Jacobi's method, 0 where a pixel is known.
        kept: part of a value that such a step leaves.
    """

    free: torch.Tensor
    diagonal: torch.Tensor
    step: torch.Tensor
    kept: torch.Tensor

    @classmethod
    def of(cls, free: torch.Tensor, springs: torch.Tensor | float) -> _Grid:
        diagonal = _blur(torch.ones_like(free)) + springs
        step = free / (diagonal - 4)  # 4 is the pixel's own weight in the blur
        return cls(free, diagonal, step, 1 - diagonal * step)

    def rows(self, chosen: torch.Tensor) -> _Grid:
        return _Grid(self.free[chosen], self.diagonal[chosen], self.step[chosen], self.kept[chosen])

    def product(self, x: torch.Tensor) -> torch.Tensor:
        return _blur(x).neg_().addcmul_(x, self.diagonal).mul_(self.free)

    def smoothed(self, x: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return x after a step of Jacobi's method towards the solution for ``right``."""
        return (x * self.kept).addcmul_(_blur(x).add_(right), self.step)


def _grids(removed: torch.Tensor) -> list[_Grid]:
    free = removed
    grids = [_Grid.of(free, 0.0)]
    springs = SPRING * free * _blur(1 - free)
    while min(free.shape[-2:]) > COARSEST:
        free, springs = (_halve(free) > 0).to(free.dtype), _halve(springs)
        grids.append(_Grid.of(free, springs))
    return grids


def _v_cycle(grids: list[_Grid], right: torch.Tensor) -> torch.Tensor:
    """Return roughly the solution for ``right``: one step, a correction from the coarser grid, another step."""
    grid, coarser = grids[0], grids[1:]
    x = right * grid.step
    if not coarser:
        for _ in range(2 * SWEEPS - 1):
            x = grid.smoothed(x, right)
        return x
    left = _blur(x).addcmul_(right, grid.kept).mul_(grid.free)
    x.addcmul_(_double(_v_cycle(coarser, _halve(left)), *x.shape[-2:]), grid.free)
    return grid.smoothed(x, right)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vecdot(a.flatten(2), b.flatten(2))[..., None, None]


def impute(pictures: torch.Tensor, removed: torch.Tensor, tolerance: float = 1e-3) -> torch.Tensor:
    """Fill in removed pixels with the weighted means of their neighbours.

    Args:
        pictures: floating point (N, C, H, W), of any range; H and W at least 3.
        removed: bool (N, H, W); a picture of which everything is removed has no answer.
        tolerance: a picture is finished when a step moves none of its values by more than this part of its range.

    Returns:
        The pictures (N, C, H, W), other than ``pictures`` only where something was removed. Rows do not depend on
        each other.

    Raises:
        ValueError: all pixels of a picture are removed.
    """
    if bool(removed.flatten(1).all(dim=1).any()):
        raise ValueError("found a picture of which every pixel is removed; allowed: at least one that is left")
    grids = _grids(removed[:, None].to(pictures.dtype))
    answer = pictures * (1 - grids[0].free)
    enough = tolerance * (pictures.amax(dim=(1, 2, 3)) - pictures.amin(dim=(1, 2, 3)))
    at = torch.arange(len(pictures), device=pictures.device)
    x, residual = answer, _blur(answer).mul_(grids[0].free)
    towards = before = None
    for _ in range(MOST_STEPS):
        better = _v_cycle(grids, residual)
        now = _dot(residual, better)
        towards = better if towards is None else towards.mul_(_ratio(now, before)).add_(better)
        product = grids[0].product(towards)
        length = _ratio(now, _dot(towards, product))
        x = x.addcmul(towards, length)
        residual = residual.addcmul(product, length, value=-1)
        before = now
        moved = (length.abs() * towards.abs().amax(dim=(2, 3), keepdim=True)).amax(dim=(1, 2, 3))
        going = moved > enough[at]
        if not bool(going.all()):
            answer[at[~going]] = x[~going]
            at, x, residual, towards, before = at[going], x[going], residual[going], towards[going], before[going]
            grids = [grid.rows(going) for grid in grids]
            if not len(at):
                break
    answer[at] = x
    return torch.where(removed[:, None], answer, pictures)


def _ratio(a: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
    """Return a / b, 0 where both are 0: a channel that is solved already does not move."""
    if b is None:
        raise ValueError("the first step has no step before it")
    return torch.where(b > 0, a / torch.where(b > 0, b, 1), 0)
