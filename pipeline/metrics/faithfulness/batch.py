"""A few pictures with their maps, ready to be changed and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from typing_extensions import override

from pipeline.core.batches import batch_size, batches
from pipeline.core.errors import UserError
from pipeline.core.randomness import generator
from pipeline.models.classifier import Classifier
from pipeline.saliency.map_file import Values, enlarge

Explain = Callable[[Classifier, torch.Tensor, torch.Tensor, Sequence[int]], torch.Tensor]
"""``(model, images, targets, seeds) -> maps``: a method with its settings."""


@dataclass(frozen=True)
class Method:
    """A saliency method, to explain pictures again.

    Attributes:
        explain: see `Explain`.
        values: what kind of values its maps have.
        at_once: evaluations of one map that it makes at once.
    """

    explain: Explain
    values: Values
    at_once: int = 1


Make = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``(rows, steps) -> pictures``: for each pair, a changed picture of a row; both are int64 (n,)."""


def descending(values: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the place of each value among all in descending order, ties in an order drawn at random.

    Args:
        values: (n,), finite.
        rng: decides between equal values.

    Returns:
        int64 (n,): 0 for the greatest value, n - 1 for the least.
    """
    drawn = rng.permutation(len(values))
    places = np.empty(len(values), np.int64)
    places[drawn[np.argsort(-values[drawn], kind="stable")]] = np.arange(len(values))
    return places


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows, what explains them, and how to score changed pictures of them.

    Attributes:
        model: in the state that the maps explain.
        images: float32 (B, 3, H, W), normalised for the model.
        targets: int64 (B,), the class that each map explains.
        maps: float64 (B, H, W), at the size of the images; None if what is asked for needs none.
        seeds: one integer per row, from which all randomness of that row comes.
        method: what made the maps, for what explains pictures again.
        method_seeds: what it was seeded with, one integer per row.
    """

    model: Classifier
    images: torch.Tensor
    targets: torch.Tensor
    maps: npt.NDArray[np.float64] | None
    seeds: Sequence[int]
    method: Method | None = None
    method_seeds: Sequence[int] = ()

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.images.shape[-1]

    @cached_property
    def unit(self) -> torch.Tensor:
        """The maps as masks, float32 (B, 1, H, W) in [0, 1]: what is below 0 counts as 0."""
        assert self.maps is not None
        return torch.from_numpy(self.maps.clip(0, 1)[:, None]).to(self.images)

    @cached_property
    def places(self) -> torch.Tensor:
        """Place of each pixel in the descending order of its map, int64 (B, H, W); ties in a seeded order."""
        assert self.maps is not None
        places = [
            descending(one.ravel(), self.rng(row, "ties")).reshape(one.shape) for row, one in enumerate(self.maps)
        ]
        return torch.from_numpy(np.stack(places)).to(self.images.device)

    @cached_property
    def black(self) -> torch.Tensor:
        """Black, as the model gets it: (1, 3, 1, 1)."""
        return -self.model.mean / self.model.std

    @cached_property
    def unchanged(self) -> torch.Tensor:
        """Score of each picture as it is, Y: float64 (B, 1)."""
        return self.scores(1, lambda rows, _: self.images[rows])

    def rng(self, row: int, what: str) -> np.random.Generator:
        """Return the generator of what is drawn for a row."""
        return generator(self.seeds[row], what)

    def noise(self, row: int, what: str, *shape: int) -> torch.Tensor:
        """Return standard normal numbers for a row, float32."""
        drawn = self.rng(row, what).standard_normal(shape, dtype=np.float32)
        return torch.from_numpy(drawn).to(self.images.device)

    def scores(self, steps: int, make: Make) -> torch.Tensor:
        """Score changed pictures of every row.

        Args:
            steps: changed pictures per row.
            make: makes some of them.

        Returns:
            float64 (B, steps), softmax score of each row's class.

        Raises:
            UserError: the model gives a score that is not finite.
        """
        pairs = torch.arange(len(self.images) * steps, device=self.images.device)
        found = []
        with torch.inference_mode():
            for part in batches(len(pairs), self.side, self.images.device):
                rows, at = pairs[part] // steps, pairs[part] % steps
                pictures = make(rows, at).contiguous(memory_format=torch.channels_last)
                scored = self.model(pictures).double().softmax(dim=1)
                found.append(scored.gather(1, self.targets[rows, None])[:, 0])
            scores = torch.cat(found).view(-1, steps)
        if not bool(scores.isfinite().all()):
            raise UserError(
                "the model", "found a score that is not a finite number", expected="finite logits for every picture"
            )
        return scores.clone()  # outside of inference mode, where it may be written to

    def explained(self, steps: int, make: Make) -> npt.NDArray[np.float64]:
        """Explain changed pictures of every row again, with the row's own class and seed.

        Args:
            steps: changed pictures per row.
            make: makes some of them.

        Returns:
            float64 (B, steps, H, W), at the size of the images.
        """
        assert self.method is not None
        pairs = torch.arange(len(self.images) * steps, device=self.images.device)
        together = max(1, batch_size(self.side, self.images.device) // self.method.at_once)
        maps = []
        for part in pairs.split(together):
            rows, at = part // steps, part % steps
            seeds = [self.method_seeds[row] for row in rows.tolist()]
            explained = self.method.explain(self.model, make(rows, at), self.targets[rows], seeds)
            maps += [enlarge(one, self.side, self.method.values) for one in explained.detach().cpu().numpy()]
        return np.stack(maps).reshape(-1, steps, self.side, self.side)


@dataclass(frozen=True)
class Probe:
    """Something asked of the model about a row and its map; its settings are its fields.

    Metrics that ask the same share the answer.
    """

    def forward(self, side: int) -> int:
        """Return how many pictures of a row are scored."""
        raise NotImplementedError

    def explanations(self) -> int:
        """Return how many pictures of a row are explained again."""
        return 0

    def width(self, side: int) -> int:
        """Return how many numbers answer it."""
        return self.forward(side)

    def ask(self, batch: Batch) -> torch.Tensor:
        """Return the answers, float64 (B, width); NaN stands for what is undefined."""
        raise NotImplementedError


@dataclass(frozen=True)
class Unchanged(Probe):
    """Score of a picture as it is, Y. Most metrics compare with it, so it is asked for once and not with each."""

    @override
    def forward(self, side: int) -> int:
        return 1

    @override
    def ask(self, batch: Batch) -> torch.Tensor:
        return batch.unchanged


Answer = npt.NDArray[np.float64]
"""Of a probe, for all rows: (N, width)."""
