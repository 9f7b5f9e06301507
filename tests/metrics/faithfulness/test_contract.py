"""What every faithfulness metric must keep; a new one is picked up by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.tables import check
from pipeline.metrics.faithfulness.batch import Method
from pipeline.metrics.faithfulness.metric import FLAT, METRICS
from pipeline.metrics.faithfulness.tables import FAITHFULNESS
from pipeline.models.classifier import Classifier
from tests.conftest import SIDE
from tests.metrics.faithfulness.world import OBJECT, linear, measured, one, small, table

BEST = (OBJECT * 0.9 + np.random.default_rng(0).random((4, SIDE, SIDE)) * 0.1).clip(0, 1)


def steady(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Any) -> torch.Tensor:
    """Explain by the place of the row's seed alone, so that a map never moves."""
    return torch.tensor(OBJECT, dtype=torch.float32).expand(len(images), -1, -1)


def jumpy(model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Any) -> torch.Tensor:
    """Explain by digits of the picture that no model sees."""
    return (images.mean(dim=1) * 1000) % 1


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Grey pictures with a bright object each."""
    rng = np.random.default_rng(1)
    grey = 90 + 90 * OBJECT + rng.integers(0, 40, (4, SIDE, SIDE))
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


@pytest.fixture(scope="module")
def model() -> Classifier:
    """The object speaks for its class, and the rest a little against it."""
    return linear((OBJECT - 0.07 * (1 - OBJECT)) / 8, bias=-2.0)


def ask(
    name: str,
    model: Classifier,
    pictures: np.ndarray,
    maps: np.ndarray,
    explain: Any = steady,
    seed: int = 0,
    values: Any = "unit",
) -> np.ndarray:
    found = measured(
        name, model, pictures, np.ones(len(pictures)), maps, method=Method(explain, values), seed=seed, values=values
    )
    check(FAITHFULNESS, found, name)
    assert (found["value"].isna() == found["reason"].notna()).all()
    return found["value"].to_numpy(dtype=float, na_value=np.nan)


@pytest.mark.parametrize("name", METRICS)
def test_it_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert set(metric.needs) <= {"map", "model", "method"}
    assert metric.forward(small(name), SIDE) > 0 or "model" not in metric.needs
    assert (metric.limits is None) == (metric.limits_forward(small(name), SIDE) == 0)
    probes = metric.probes(small(name))
    assert metric.probes(small(name)) == probes, "equal questions must be equal, to be asked once"
    assert all(probe.width(SIDE) >= 1 for probe in probes)
    assert metric.better is None or "map" in metric.needs


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].better])
def test_it_tells_a_known_best_map_from_a_known_worst(name: str, model: Classifier, pictures: np.ndarray) -> None:
    metric = METRICS[name]
    best = ask(name, model, pictures, BEST)
    worst = ask(name, model, pictures, 1 - BEST, jumpy)
    assert np.isfinite(best).all()
    assert np.isfinite(worst).all()
    sign = 1 if metric.better == "higher" else -1
    assert (sign * best > sign * worst).all(), (best, worst)
    if metric.best is not None:
        assert (sign * best <= sign * metric.best + 1e-12).all()


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_map_has_no_order(name: str, value: float, model: Classifier, pictures: np.ndarray) -> None:
    maps = np.full_like(BEST, value)
    found = measured(name, model, pictures, np.ones(4), maps)
    check(FAITHFULNESS, found, name)
    if METRICS[name].orders:
        assert (found["reason"] == FLAT).all()
        assert found["value"].isna().all()


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("values", ["signed", "ternary"])
def test_every_kind_of_values_has_a_value_or_a_reason(
    name: str, values: str, model: Classifier, pictures: np.ndarray
) -> None:
    maps = np.sign(BEST - 0.5) * (BEST > 0.05) if values == "ternary" else 2 * BEST - 1
    found = ask(name, model, pictures, maps, values=values)
    assert len(found) % 4 == 0


@pytest.mark.parametrize("name", METRICS)
def test_rows_do_not_depend_on_each_other(name: str, model: Classifier, pictures: np.ndarray) -> None:
    maps = np.concatenate([BEST[:2], np.round(BEST[2:], 1)])  # with ties
    everything = measured(name, model, pictures, np.ones(4), maps)
    alone = measured(name, model, pictures[2:3], [1], maps[2:3], rows=table(1, [1]).assign(row=102, turn=2))
    expected = everything[everything["row"] == 102]["value"].to_numpy(dtype=float)
    np.testing.assert_allclose(alone["value"].to_numpy(dtype=float), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_it_is_drawn_from_the_seed(name: str, model: Classifier, pictures: np.ndarray) -> None:
    state, drawn = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    maps = np.round(BEST, 1)
    first, again = (ask(name, model, pictures, maps, jumpy, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], drawn)
    other = ask(name, model, pictures, maps, jumpy, seed=4)
    if METRICS[name].orders or name in ("infidelity", "sensitivity_max"):
        assert (first != other).any(), "ties and noise are drawn from the seed"
    else:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].chance is not None])
def test_random_maps_are_at_chance(name: str, model: Classifier) -> None:
    rng = np.random.default_rng(2)
    count = 60
    grey = (90 + 90 * OBJECT + rng.integers(0, 40, (count, SIDE, SIDE))).astype(np.uint8)
    pixels = np.repeat(grey[..., None], 3, axis=-1)
    found = one(measured(name, model, pixels, np.ones(count), rng.random((count, SIDE, SIDE))), name)
    error = found.std() / np.sqrt(count)
    assert abs(found.mean() - METRICS[name].chance) < 4 * error
    assert error < 0.01, "or any mean would pass"
