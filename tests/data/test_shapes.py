"""Drawn shapes: nothing but the shape tells the class, and the masks are right."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from pipeline.core.randomness import generator
from pipeline.data.datasets import shapes

AREA = shapes.AreaSettings(smallest=0.1, largest=0.25)


def drawn(count: int, size: int = 56) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    backgrounds = shapes.photographs()
    labels = np.arange(count) % len(shapes.CLASSES)
    pairs = [
        shapes.draw(generator(9, "test", i), backgrounds, int(label), size, area=AREA) for i, label in enumerate(labels)
    ]
    return np.stack([image for image, _ in pairs]), np.stack([mask > 0 for _, mask in pairs]), labels


@pytest.mark.slow
def test_shapes_are_not_solvable_from_colour_or_size() -> None:
    images, masks, labels = drawn(600)
    areas = masks.mean(axis=(1, 2))[:, None]
    histograms = np.stack(
        [np.concatenate([np.histogram(image[..., c], 8, (0, 256))[0] for c in range(3)]) for image in images]
    )
    inside = np.stack([image[mask].mean(axis=0) for image, mask in zip(images, masks, strict=True)])
    for features, limit in ((areas, 0.16), (inside, 0.16), (histograms, 0.24)):
        forest = RandomForestClassifier(100, random_state=0)
        accuracy = cross_val_score(forest, features, labels, cv=3).mean()
        # Chance is 0.1; a histogram may tell one colour from two, which would be worth 0.2.
        assert accuracy < limit, f"{features.shape[1]} numbers reach {accuracy:.2f}"


def test_shapes_have_the_area_that_was_asked_for_and_stay_in_the_frame() -> None:
    _, masks, labels = drawn(200)
    areas = masks.mean(axis=(1, 2))
    assert areas.min() > AREA.smallest - 0.02
    assert areas.max() < AREA.largest + 0.02
    of_class = [areas[labels == label].mean() for label in range(len(shapes.CLASSES))]
    assert np.ptp(of_class) < 0.06
    border = masks[:, [0, -1]].any(axis=(1, 2)) | masks[:, :, [0, -1]].any(axis=(1, 2))
    assert border.mean() < 0.2


def test_masks_lie_on_the_object() -> None:
    rng_pairs = [(generator(3, i), generator(3, i)) for i in range(20)]
    dark = [np.zeros((200, 200, 3), np.uint8)]
    light = [np.full((200, 200, 3), 255, np.uint8)]
    for first, second in rng_pairs:
        on_dark, mask = shapes.draw(first, dark, 0, 48, area=AREA)
        on_light, _ = shapes.draw(second, light, 0, 48, area=AREA)
        outside = mask == 0
        # Far from the object the background shows; on the object it does not.
        assert (on_dark[outside] == 0).all(axis=-1).mean() > 0.9
        assert (on_light[outside] == 255).all(axis=-1).mean() > 0.9
        assert (on_dark[~outside].max(axis=-1) > 0).all()


def test_shapes_work_at_sizes_beyond_their_photographs() -> None:
    image, mask = shapes.draw(generator(0, "large"), shapes.photographs()[3:5], 1, 512, area=AREA)
    assert image.shape == (512, 512, 3)
    assert 0.08 < (mask > 0).mean() < 0.27
