"""What every localisation metric must keep; a new one is picked up by itself."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.framing import together
from pipeline.metrics.localisation.measure import undefined
from pipeline.metrics.localisation.metric import METRICS
from pipeline.metrics.localisation.tables import FLAT, NOTHING_POSITIVE, OUTSIDE
from tests.metrics.localisation.world import CORRECTED, OBJECTS, SIDE, batch_of, objects_of, values

TRUE = OBJECTS.astype(float)
NOISE = np.random.default_rng(0).random((400, SIDE, SIDE))
FROM_CENTRE = np.exp(-((np.arange(SIDE) - 12) ** 2) / 40)
RIVALS = {
    "the rest": 1 - TRUE,
    "half of it": np.where(np.arange(SIDE)[:, None] % 2, TRUE, 0.0),
    "the centre": np.broadcast_to(FROM_CENTRE[:, None] * FROM_CENTRE, TRUE.shape),
    "noise": NOISE[:4],
    "noise on a grid": np.kron(np.random.default_rng(1).random((4, 4, 4)), np.ones((1, 6, 6))),
    "all but a pixel": np.where(np.arange(SIDE**2).reshape(SIDE, SIDE) > 0, 1.0, 0.0)[None].repeat(4, axis=0),
}
WITH_TRUTH = [name for name, metric in METRICS.items() if metric.truth != "none"]


@pytest.mark.parametrize("name", METRICS)
def test_it_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert metric.truth in ("boxes", "mask", "none")
    assert metric.reads in ("order", "parts", "mass")
    assert (metric.best > metric.worst) == metric.higher_is_better
    places = metric.at(CORRECTED, SIDE)
    found = metric.compute(batch_of(TRUE, objects_of(OBJECTS)))
    assert found.dtype == np.float64
    assert found.shape == ((4,) if places is None or len(places) == 1 else (4, len(places)))


@pytest.mark.parametrize("name", WITH_TRUTH)
def test_the_true_mask_has_the_best_value(name: str) -> None:
    best = METRICS[name].best
    found = METRICS[name].compute(batch_of(TRUE, objects_of(OBJECTS))).reshape(4, -1)
    # Every pixel is at least 0, so that the first threshold alone takes the whole picture.
    np.testing.assert_allclose(found[:, -1], best)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("name", WITH_TRUTH)
def test_no_map_beats_the_true_mask(name: str, rival: str) -> None:
    objects = objects_of(OBJECTS)
    sign = 1 if METRICS[name].higher_is_better else -1
    true, other = (sign * values(name, batch_of(maps, objects)) for maps in (TRUE, RIVALS[rival]))
    assert (true >= other).all()


@pytest.mark.parametrize("name", WITH_TRUTH)
def test_what_lies_beside_the_object_has_a_worse_value(name: str) -> None:
    """The map is one pixel, as far from the object as can be."""
    maps = np.zeros_like(TRUE)
    for one, corner in zip(maps, [(23, 0), (23, 23), (0, 23), (23, 0)], strict=True):
        one[corner] = 1
    objects = objects_of(OBJECTS)
    sign = 1 if METRICS[name].higher_is_better else -1
    true, other = (sign * values(name, batch_of(one, objects)) for one in (TRUE, maps))
    assert (true > other).all()


@pytest.mark.parametrize("name", METRICS)
def test_values_are_between_the_worst_and_the_best(name: str) -> None:
    low, high = sorted((METRICS[name].worst, METRICS[name].best))
    scores = np.resize([0.0, 1e-40, 0.3, 1.0], 20)
    objects = objects_of(OBJECTS[np.arange(20) % 4])
    found = METRICS[name].compute(batch_of(NOISE[:20], objects, scores=scores))
    assert ((found >= low - 1e-9) & (found <= high + 1e-9)).all()


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.chance])
def test_noise_is_at_chance(name: str) -> None:
    batch = batch_of(NOISE, objects_of(OBJECTS[np.arange(400) % 4]))
    metric = METRICS[name]
    assert metric.chance is not None
    off = metric.compute(batch) - metric.chance(batch)
    error = off.std() / np.sqrt(len(off))
    assert abs(off.mean()) < 4 * error
    assert error < 0.03, "or any mean would pass"


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", METRICS)
def test_a_constant_map_has_no_order_and_no_parts(name: str, value: float) -> None:
    reasons = undefined(METRICS[name], batch_of(np.full_like(TRUE, value), objects_of(OBJECTS)))
    mass = None if value else NOTHING_POSITIVE
    assert reasons == [mass if METRICS[name].reads == "mass" else FLAT] * 4


@pytest.mark.parametrize("name", METRICS)
def test_a_map_without_evidence_for_its_class_has_an_order_alone(name: str) -> None:
    maps = -NOISE[:4] - 0.1
    reasons = undefined(METRICS[name], batch_of(maps, objects_of(OBJECTS)))
    assert reasons == [None if METRICS[name].reads == "order" else NOTHING_POSITIVE] * 4


@pytest.mark.parametrize("name", METRICS)
def test_positive_and_negative_values_have_an_order_and_parts(name: str) -> None:
    maps = np.sign(NOISE[:4] - 0.5)
    assert undefined(METRICS[name], batch_of(maps, objects_of(OBJECTS))) == [None] * 4


@pytest.mark.parametrize("name", METRICS)
def test_rows_do_not_depend_on_each_other(name: str) -> None:
    maps = np.concatenate([NOISE[:2], np.round(NOISE[2:4], 1), TRUE])
    masks = OBJECTS[[0, 1, 2, 3, 0, 1, 2, 3]]
    scores = np.linspace(0.1, 0.9, 8)
    everything = METRICS[name].compute(batch_of(maps, objects_of(masks), scores=scores))
    for place in range(8):
        one = slice(place, place + 1)
        alone = METRICS[name].compute(batch_of(maps[one], objects_of(masks[one]), scores=scores[one]))
        np.testing.assert_array_equal(alone[0], everything[place])


@pytest.mark.parametrize("name", METRICS)
def test_the_scale_of_a_map_does_not_count(name: str) -> None:
    if name == "pixel_f1":
        pytest.skip("its recall is the mean of the map's own values in the box")
    objects = objects_of(OBJECTS)
    whole, half = (METRICS[name].compute(batch_of(maps, objects)) for maps in (NOISE[:4], NOISE[:4] / 2))
    np.testing.assert_allclose(whole, half)


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.reads == "order"])
def test_only_the_order_counts_where_a_metric_says_so(name: str) -> None:
    objects = objects_of(OBJECTS)
    plain, bent = (METRICS[name].compute(batch_of(maps, objects)) for maps in (NOISE[:4], np.exp(NOISE[:4]) - 3))
    np.testing.assert_array_equal(plain, bent)


@pytest.mark.parametrize("name", WITH_TRUTH)
def test_an_object_outside_of_the_frame_is_null_and_no_hit(name: str) -> None:
    gone = together([np.zeros((0, 4), np.int64)], [np.zeros((SIDE, SIDE), bool)], SIDE)
    assert undefined(METRICS[name], batch_of(TRUE[:1], gone)) == [OUTSIDE]


def test_the_official_metric_is_never_below_the_localisation_error() -> None:
    maps = np.concatenate([NOISE[:200], np.kron(np.random.default_rng(2).random((200, 3, 3)), np.ones((1, 8, 8)))])
    right = np.arange(400) % 3 > 0
    batch = batch_of(maps, objects_of(OBJECTS[np.arange(400) % 4]), right=right)
    official, error = (METRICS[name].compute(batch) for name in ("official_metric", "localization_error"))
    assert (official >= error).all()
    assert (official[right] == error[right]).all()
    assert (official[~right] == 1).all()
    assert 0 < error.mean() < 1, "or nothing is compared"
