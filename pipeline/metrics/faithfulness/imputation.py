"""Filling in removed pixels from their neighbours, as ROAD does (Rong et al., 2022, https://arxiv.org/abs/2202.00449).

A removed pixel is the weighted mean of its neighbours, 1/6 for each along an edge and 1/12 for each across a corner,
renormalised at the border of the picture. Neighbours may be removed themselves, so the removed pixels of a picture
solve a sparse linear system.

It is solved by conjugate gradients, preconditioned with one V-cycle of multigrid. On the coarse grids the known pixels
are no boundary, which a coarse grid cannot follow, but a spring: a removed pixel is held back by its known neighbours,
and the sum of those weights is carried down. So the number of steps hardly depends on the size or the shape of what is
removed. The weights are those of a binomial blur without its centre, so that every product with the matrix is four
additions of shifted pictures.

At these sizes, allocating memory and slicing tensors take longer than the arithmetic. So all buffers are allocated once
for pictures of a shape, together with the list of operations on them, which are then called again and again. Pictures
lie in a frame of zeros one pixel wide: beyond the end of a row comes the frame, so a shift moves one long vector.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import torch

COARSEST = 12
"""Side, in pixels, of a grid that is not halved again."""
SPRING = 0.7
"""Of the known neighbours' weights; below 1 because a correction gives way near them. Found by trying."""
SWEEPS = 3
"""Steps on the coarsest grid, before and after."""
MOST_STEPS = 200
TINY = 1e-37
"""The least divisor."""

_SOLVING = threading.Lock()
"""Held by the thread that solves. Two threads that solve at once take as long as one after the other, because they wait
for Python's global lock between many small operations; meanwhile, another thread can run the network."""

Operation = Callable[[], Any]


def _run(operations: Iterable[Operation]) -> None:
    for operation in operations:
        operation()


def _framed(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(x, (1, 1, 1, 1))


def _half(framed: int) -> int:
    """Return the size of a grid with its frame that has every other line of one with its frame."""
    return (framed - 1) // 2 + 2


def _blur(x: torch.Tensor, out: torch.Tensor, spare: torch.Tensor) -> list[Operation]:
    """Write sums over 3x3 windows with weights 1, 2 and 4; what is left in the frame is finite, and has no meaning."""
    width = x.shape[-1]
    line, summed, blurred = x.view(-1), spare.view(-1), out.view(-1)
    return [
        partial(torch.add, line[1:], line[:-1], out=summed[:-1]),
        partial(torch.add, summed[1:-1], summed[:-2], out=blurred[1:-1]),
        partial(torch.add, blurred[width:], blurred[:-width], out=summed[:-width]),
        partial(torch.add, summed[width:-width], summed[: -2 * width], out=blurred[width:-width]),
    ]


def _halve(x: torch.Tensor, out: torch.Tensor, between: torch.Tensor) -> list[Operation]:
    """Write sums at every other pixel with weights 1, 1/2 and 1/4: the transpose of `_double`, but for the border."""
    operations: list[Operation] = []
    for dim, half in ((-2, between), (-1, out)):
        size, count = x.shape[dim] - 2, half.shape[dim] - 2
        before, here, after = (_every_other(x, dim, start, count) for start in (0, 1, 2))
        inside = half.narrow(dim, 1, count)
        operations += [
            partial(torch.add, here, before, alpha=0.5, out=inside),
            partial(inside.add_, after, alpha=0.5),
        ]
        if size % 2 == 0:  # the last pixel has one neighbour only, whose value it takes whole
            operations.append(partial(half.narrow(dim, count, 1).add_, x.narrow(dim, size, 1), alpha=0.5))
        x = half
    return operations


def _double(x: torch.Tensor, out: torch.Tensor, between: torch.Tensor) -> list[Operation]:
    """Write values between those of a coarse grid, bilinearly."""
    operations: list[Operation] = []
    for dim, wide in ((-1, between), (-2, out)):
        size, count = wide.shape[dim] - 2, x.shape[dim] - 2
        odd = size // 2
        halfway = _every_other(wide, dim, 2, odd)
        operations += [
            partial(_every_other(wide, dim, 1, count).copy_, x.narrow(dim, 1, count)),
            partial(torch.add, x.narrow(dim, 1, odd), x.narrow(dim, 2, odd), out=halfway),
            partial(halfway.mul_, 0.5),
        ]
        if size % 2 == 0:
            operations.append(partial(wide.narrow(dim, size, 1).copy_, x.narrow(dim, count, 1)))
        x = wide
    return operations


def _every_other(x: torch.Tensor, dim: int, start: int, count: int) -> torch.Tensor:
    lines = slice(start, start + 2 * count - 1, 2)
    return x[..., lines, :] if dim == -2 else x[..., lines]


class _Grid:
    """Buffers for the system on one grid: ``diagonal * x - blur(x)`` is ``right`` where pixels are free.

    Attributes:
        free: (N, 1, H + 2, W + 2), 1 where a pixel is to be found, 0 where it is known and in the frame.
        springs: like ``free``, weights of the known neighbours, or what a coarse grid has of them.
        weights: like ``free``, sum of a pixel's weights, its own among them.
        diagonal: like ``free``, the same, on coarse grids with the springs.
        step: like ``free``, of Jacobi's method; 0 where a pixel is not free.
        kept: like ``free``, part of a value that such a step leaves.
        right: (N, C, H + 2, W + 2), what the system is solved for; on the finest grid, the residual.
        x: like ``right``, roughly the solution.
        work, spare: like ``right``, for intermediate results.
    """

    def __init__(self, count: int, channels: int, height: int, width: int, *, like: torch.Tensor) -> None:
        """Allocate the buffers of grids of this size, frame included."""

        def room(of: int) -> torch.Tensor:
            return like.new_zeros(count, of, height, width)

        self.free, self.springs, self.diagonal, self.step, self.kept = (room(1) for _ in range(5))
        self.right, self.x, self.work, self.spare = (room(channels) for _ in range(4))
        self.inside = _framed(like.new_ones(count, 1, height - 2, width - 2))
        self.weights = room(1)
        _run(_blur(self.inside, self.weights, room(1)))
        self.weights[self.inside == 0] = 9  # in the frame, any number that can be divided by

    def prepared(self, *, sprung: bool) -> list[Operation]:
        """Find diagonal, step and kept."""
        return [
            partial(torch.add, self.weights, self.springs, alpha=int(sprung), out=self.diagonal),
            partial(torch.sub, self.diagonal, 4, out=self.kept),  # 4 is the pixel's own weight in the blur
            partial(torch.div, self.free, self.kept, out=self.step),
            partial(torch.mul, self.diagonal, self.step, out=self.kept),
            partial(torch.sub, 1, self.kept, out=self.kept),
        ]

    def smoothed(self) -> list[Operation]:
        """Take a step of Jacobi's method from ``x`` towards the solution for ``right``."""
        return [
            *_blur(self.x, self.work, self.spare),
            partial(self.work.add_, self.right),
            partial(self.x.mul_, self.kept),
            partial(self.x.addcmul_, self.work, self.step),
        ]

    def left(self) -> list[Operation]:
        """Write what the first step, from nothing, leaves of ``right`` to ``work``."""
        return [
            *_blur(self.x, self.work, self.spare),
            partial(self.work.addcmul_, self.right, self.kept),
            partial(self.work.mul_, self.free),
        ]


class _Solver:
    """Buffers for pictures of a shape, and the operations on them."""

    def __init__(self, like: torch.Tensor) -> None:
        """Allocate for as many pictures as these, (N, C, H, W)."""
        count, channels, height, width = (*like.shape[:2], *(size + 2 for size in like.shape[2:]))
        self.grids = [_Grid(count, channels, height, width, like=like)]
        while min(height, width) - 2 > COARSEST:
            height, width = _half(height), _half(width)
            self.grids.append(_Grid(count, channels, height, width, like=like))
        finest = self.grids[0]
        self.known, self.towards, self.answer = (torch.zeros_like(one) for one in (finest.free, finest.x, finest.x))
        self._begin, self._cycle = self._beginning(), self._v_cycle(self.grids)
        self._product: list[Operation] = [
            *_blur(self.towards, finest.work, finest.spare),
            partial(finest.work.addcmul_, self.towards, finest.diagonal, value=-1),
            partial(finest.work.mul_, finest.free),
        ]

    def _beginning(self) -> list[Operation]:
        """Prepare all grids from ``free`` of the finest, and find the residual of ``answer``."""
        finest = self.grids[0]
        operations: list[Operation] = [
            partial(torch.sub, finest.inside, finest.free, out=self.known),
            *_blur(self.known, finest.springs, torch.zeros_like(self.known)),
            partial(finest.springs.mul_, finest.free),
            *finest.prepared(sprung=False),
            partial(self.answer.mul_, self.known),
            *_blur(self.answer, finest.work, finest.spare),
            partial(torch.mul, finest.work, finest.free, out=finest.right),
        ]
        for fine, coarse in pairwise(self.grids):
            between = fine.free.new_zeros(*fine.free.shape[:2], coarse.free.shape[2], fine.free.shape[3])
            operations += [
                *_halve(fine.free, coarse.free, between),
                partial(coarse.free.sign_),
                *_halve(fine.springs, coarse.springs, between),
            ]
            if fine is finest:
                operations.append(partial(coarse.springs.mul_, SPRING))
            operations += coarse.prepared(sprung=True)
        return operations

    def _v_cycle(self, grids: list[_Grid]) -> list[Operation]:
        """Write roughly the solution to ``x``: one step, a correction from the coarser grid, another step."""
        grid, coarser = grids[0], grids[1:]
        first: Operation = partial(torch.mul, grid.right, grid.step, out=grid.x)
        if not coarser:
            return [first, *(2 * SWEEPS - 1) * grid.smoothed()]
        between = grid.x.new_zeros(*grid.x.shape[:2], coarser[0].x.shape[2], grid.x.shape[3])
        return [
            first,
            *grid.left(),
            *_halve(grid.work, coarser[0].right, between),
            *self._v_cycle(coarser),
            *_double(coarser[0].x, grid.work, between),
            partial(grid.x.addcmul_, grid.work, grid.free),
            *grid.smoothed(),
        ]

    def solve(self, pictures: torch.Tensor, removed: torch.Tensor, tolerance: float) -> torch.Tensor:
        """Return the answers, (N, C, H, W); see `impute`."""
        finest = self.grids[0]
        better, residual, product = finest.x, finest.right, finest.work
        finest.free[:, 0, 1:-1, 1:-1] = removed
        self.answer[..., 1:-1, 1:-1] = pictures
        self.towards.zero_()
        _run(self._begin)
        enough = tolerance * (pictures.amax(dim=(1, 2, 3)) - pictures.amin(dim=(1, 2, 3)))
        going = torch.ones(len(pictures), dtype=torch.bool, device=pictures.device)
        before = previous = None
        for _ in range(MOST_STEPS):
            _run(self._cycle)
            now = _dot(residual, better)
            if before is not None:
                self.towards.mul_(_ratio(now, before))
            self.towards.add_(better)
            before = now
            _run(self._product)
            length = _ratio(now, -_dot(self.towards, product)) * going[:, None, None, None]
            self.answer.addcmul_(self.towards, length)
            residual.addcmul_(product, length)
            largest = torch.abs(self.towards, out=finest.work).amax(dim=(2, 3), keepdim=True)
            moved = (length.abs() * largest).amax(dim=(1, 2, 3))
            # Steps shrink about as a geometric series does, whose rest is known from two of its terms.
            rest = moved if previous is None else moved * _ratio(moved, previous - moved)
            going = going & (rest > enough)
            previous = moved
            if not bool(going.any()):
                break
        return torch.where(removed[:, None], self.answer[..., 1:-1, 1:-1], pictures)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vecdot(a.flatten(2), b.flatten(2))[..., None, None]


def _ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a / b, 0 where both are 0: a channel that is solved already does not move."""
    return a / b.clamp(min=TINY)


def impute(pictures: torch.Tensor, removed: torch.Tensor, tolerance: float = 5e-4) -> torch.Tensor:
    """Fill in removed pixels with the weighted means of their neighbours.

    Args:
        pictures: floating point (N, C, H, W), of any range; H and W at least 3.
        removed: bool (N, H, W); a picture of which everything is removed has no answer.
        tolerance: a picture is finished when its values are about this part of its range away from the solution.

    Returns:
        The pictures (N, C, H, W), other than ``pictures`` only where something was removed. Rows do not depend on
        each other.

    Raises:
        ValueError: all pixels of a picture are removed.
    """
    if bool(removed.flatten(1).all(dim=1).any()):
        raise ValueError("found a picture of which every pixel is removed; allowed: at least one that is left")
    # A core's cache holds one picture; a GPU wants many.
    together = 1 if pictures.device.type == "cpu" else len(pictures)
    with _SOLVING:
        solver = _Solver(pictures[:together])
        parts = zip(pictures.split(together), removed.split(together), strict=True)
        return torch.cat([solver.solve(some, their, tolerance) for some, their in parts])
