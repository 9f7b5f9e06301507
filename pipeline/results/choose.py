"""Choosing among saliency methods for one picture: every candidate's map, measured and put in order.

After the tutorial of the package grad-cam on benchmarking and tuning explanations, which asks of one picture which
layer, which method and which class explain it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from pipeline.core.errors import UserError
from pipeline.core.params import Settings
from pipeline.core.randomness import stream_seed
from pipeline.data.decode import Pixels
from pipeline.metrics.faithfulness.batch import Answer, Batch
from pipeline.metrics.faithfulness.metric import FLAT, Metric
from pipeline.models.classifier import Classifier
from pipeline.models.ready import Ready
from pipeline.results.candidates import Candidate
from pipeline.saliency.map_file import Map, enlarge


@dataclass(frozen=True)
class Measured:
    """A candidate on a picture.

    Attributes:
        candidate: what explained it.
        saliency: its map, float64 (side, side).
        value: what the metric says of it; None if it is undefined.
        reason: why it is undefined; None if it is not.
        seconds: that the map took.
    """

    candidate: Candidate
    saliency: Map
    value: float | None
    reason: str | None
    seconds: float


@dataclass(frozen=True)
class Choice:
    """Candidates on one picture, the best first.

    Attributes:
        name: of the picture.
        picture: uint8 (side, side, 3), as the model sees it.
        prediction: number of the class that the model predicts.
        target: number of the class that is explained.
        probabilities: softmax scores of all classes.
        measured: in order; those without a value come last.
    """

    name: str
    picture: Pixels
    prediction: int
    target: int
    probabilities: npt.NDArray[np.float64]
    measured: Sequence[Measured]

    def best(self, *, control: bool) -> Measured | None:
        """Return the best candidate among the controls, or among the others; None if none has a value."""
        return next((one for one in self.measured if one.candidate.control == control and one.value is not None), None)


def choose(
    ready: Ready,
    name: str,
    picture: Pixels,
    target: int | None,
    *,
    candidates: Sequence[Candidate],
    metric: Metric,
    settings: Settings,
    seed: int,
) -> Choice:
    """Explain a picture with every candidate, and put them in order by a metric.

    Args:
        ready: the model.
        name: of the picture; randomness comes from it and the seed.
        picture: uint8 (side, side, 3), resized for the model.
        target: the class to explain; None for the one that is predicted.
        candidates: at least one.
        metric: a faithfulness metric that says which values are better.
        settings: its settings.
        seed: the user's.

    Raises:
        UserError: a candidate does not suit the model.
    """
    images = ready.model.normalize(picture[None])
    with torch.inference_mode():
        probabilities = ready.model(images).double().softmax(1)[0].cpu().numpy()
    prediction = int(probabilities.argmax())
    explained = prediction if target is None else target
    drawn = stream_seed(seed, "choose", name)
    found = [_explained(ready, one, images, explained, seed=drawn) for one in candidates]
    values = measure(
        ready.model,
        images,
        explained,
        [saliency for saliency, _ in found],
        metric=metric,
        settings=settings,
        seed=drawn,
    )
    measured = []
    for candidate, (saliency, seconds), value in zip(candidates, found, values, strict=True):
        flat = metric.orders and saliency.min() == saliency.max()
        reason = FLAT if flat else "undefined on this picture" if np.isnan(value) else None
        measured.append(Measured(candidate, saliency, None if reason else value, reason, seconds))
    sign = -1 if metric.better == "higher" else 1
    measured.sort(key=lambda one: (one.value is None, sign * (one.value or 0)))
    return Choice(name, picture, prediction, explained, probabilities, measured)


def _explained(ready: Ready, one: Candidate, images: torch.Tensor, target: int, *, seed: int) -> tuple[Map, float]:
    try:
        model: Classifier = ready.model if one.layer is None else ready.at_layer(one.layer)
    except UserError as error:
        raise error.at(f"methods: {one.name}: {error.where.rpartition('.')[2]}") from error
    start = time.perf_counter()
    try:
        maps = one.method.explain(model, images, torch.tensor([target]).to(images.device), one.settings, [seed])
    except UserError as error:
        raise error.at(f"{one.name}: {error.where}") from None
    saliency = enlarge(maps[0].detach().cpu().numpy(), images.shape[-1], one.method.values)
    return saliency, time.perf_counter() - start


def measure(
    model: Classifier,
    images: torch.Tensor,
    target: int,
    maps: Sequence[Map],
    *,
    metric: Metric,
    settings: Settings,
    seed: int,
) -> list[float]:
    """Return what a metric says of maps of one picture, NaN where it is undefined.

    All maps are measured in one batch, with the same noise for each, so that what is random does not put them in order.

    Args:
        model: the model that they explain.
        images: float32 (1, 3, H, W), the picture, normalised.
        target: the class that they explain.
        maps: float64 (H, W) each.
        metric: a metric that does not explain again.
        settings: its settings.
        seed: what the metric draws comes from it.
    """
    count = len(maps)
    batch = Batch(
        model,
        images.expand(count, -1, -1, -1),
        torch.full((count,), target, device=images.device),
        np.stack(maps),
        [seed] * count,
    )
    answers: list[Answer] = [probe.ask(batch).cpu().numpy() for probe in metric.probes(settings)]
    if metric.limits is not None:
        alone = Batch(model, images, torch.tensor([target], device=images.device), None, [seed])
        answers.append(np.repeat(metric.limits(settings).ask(alone).cpu().numpy(), count, axis=0))
    readings = metric.read(answers, settings)
    chosen = next((one for one in readings if one.at is None), readings[0])
    return [float(number) for number in chosen.numbers]


def verdict(choice: Choice, metric: str, *, better: str) -> str:
    """Say in a line which candidate is best, and whether it beats those that do not look at the model."""
    best, control = choice.best(control=False), choice.best(control=True)
    if best is None:
        return f"{metric} is undefined for every method."
    won = f"{best.candidate.name} is best ({metric} {_number(best)})"
    if control is None:
        return f"{won}; no control was measured, so nothing says whether that is more than chance."
    other = f"{control.candidate.name} ({_number(control)})"
    assert best.value is not None
    assert control.value is not None
    ahead = best.value > control.value if better == "higher" else best.value < control.value
    if ahead:
        return f"{won}, and beats the best control, {other}."
    return f"No method beats the controls here: {other} is at least as good as {best.candidate.name} ({_number(best)})."


def _number(one: Measured) -> str:
    return f"{one.value:.3f}".replace("-", "−")


def lines(choices: Sequence[Choice]) -> pd.DataFrame:
    """Return every candidate on every picture: picture, class, rank, candidate, control, value, reason, seconds."""
    return pd.DataFrame(
        [
            {
                "image": choice.name,
                "class": choice.target,
                "rank": rank if one.value is not None else None,
                "candidate": one.candidate.name,
                "control": one.candidate.control,
                "value": one.value,
                "undefined": one.reason,
                "seconds": round(one.seconds, 3),
            }
            for choice in choices
            for rank, one in enumerate(choice.measured, start=1)
        ]
    ).astype({"rank": "Int64"})


def over_pictures(table: pd.DataFrame) -> pd.DataFrame:
    """Return the candidates over several pictures, the one with the best mean rank first.

    Args:
        table: of `lines`.

    Returns:
        candidate, control, pictures (where it has a value), mean_rank, first (how often it is the best), mean_value.
    """
    groups = table.groupby(["candidate", "control"], sort=False)
    found = groups.agg(
        pictures=("value", "count"),
        mean_rank=("rank", "mean"),
        first=("rank", lambda ranks: int((ranks == 1).sum())),
        mean_value=("value", "mean"),
    )
    return found.reset_index().sort_values("mean_rank", kind="stable", na_position="last", ignore_index=True)
