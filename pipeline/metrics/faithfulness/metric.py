"""What a faithfulness metric declares, and the metrics there are: one file each in the folder ``metrics``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.core.params import Settings
from pipeline.core.registry import Registry

if TYPE_CHECKING:
    from pipeline.metrics.faithfulness.batch import Answer, Probe

Need = Literal["map", "model", "method"]
FLAT = "the map is constant, so that it puts the pixels in no order"


class NoSettings(Settings):
    """Nothing to choose."""


@dataclass(frozen=True)
class Reading:
    """One number of a metric for every row.

    Attributes:
        numbers: (N,); NaN where it is undefined.
        undefined: why it is, where it is.
        at: percent of the pixels that it is about; None if it is about none in particular.
    """

    numbers: npt.NDArray[np.float64]
    undefined: str = ""
    at: float | None = None


@dataclass(frozen=True)
class Metric:
    """A faithfulness metric.

    Attributes:
        settings: the type of its section ``faithfulness.<name>`` in params.yaml.
        probes: ``settings -> probes``: what it asks about every map.
        read: ``(answers, settings) -> readings``: its values from the answers (N, width) to its probes, in order, and
            last from those of ``limits`` where it has them. A pure function of whole arrays.
        better: which values are better; None for one that only describes a map.
        best: the best value there can be; None if there is none.
        chance: expected of maps that do not look at the model; None if that depends on the model.
        orders: whether it uses the order of the pixels alone, so that a constant map has no value.
        limits: ``settings -> probe`` about every image alone, without a map; asked once for a cell and all its methods.
        needs: what it takes: the map; the model; the method, to explain again.
    """

    settings: type[Settings]
    probes: Callable[[Any], tuple[Probe, ...]]
    read: Callable[[Sequence[Answer], Any], list[Reading]]
    better: Literal["higher", "lower"] | None
    best: float | None = None
    chance: float | None = None
    orders: bool = False
    limits: Callable[[Any], Probe] | None = None
    needs: tuple[Need, ...] = ("map", "model")

    def forward(self, settings: Any, side: int) -> int:
        """Return how many pictures are scored for one map; a probe that metrics share counts in each."""
        return sum(probe.forward(side) for probe in self.probes(settings))

    def limits_forward(self, settings: Any, side: int) -> int:
        """Return how many pictures are scored for one image, whatever the methods."""
        return self.limits(settings).forward(side) if self.limits else 0


METRICS: Registry[Metric] = Registry("pipeline.metrics.faithfulness.metrics", "METRIC", "faithfulness metric")


def probes_of(settings: Mapping[str, Settings]) -> list[Probe]:
    """Return what some metrics ask about every map, each question once."""
    return _distinct(probe for name, own in settings.items() for probe in METRICS[name].probes(own))


def limits_of(settings: Mapping[str, Settings]) -> list[Probe]:
    """Return what some metrics ask about every image, each question once."""
    found = ((METRICS[name].limits, own) for name, own in settings.items())
    return _distinct(limits(own) for limits, own in found if limits is not None)


def _distinct(probes: Iterable[Probe]) -> list[Probe]:
    return list(dict.fromkeys(probes))


def quotient(a: Answer, b: Answer) -> Answer:
    """Return a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b != 0)
