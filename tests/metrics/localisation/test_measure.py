"""From the tables of a dataset to those of localisation and the box study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import UserError
from pipeline.core.tables import check, write
from pipeline.data.decode import encode_png
from pipeline.data.prepared import BOXES, IMAGES, prepared_file
from pipeline.metrics.localisation.box_study import ALONE, OF_MAP
from pipeline.metrics.localisation.cut_outs import CutOuts, cut_out
from pipeline.metrics.localisation.measure import measure_localisation, study_boxes
from pipeline.metrics.localisation.metric import METRICS
from pipeline.metrics.localisation.objects import FrameObjects, frame_objects
from pipeline.metrics.localisation.tables import BOX_STUDY, FLAT, FRAME_BOXES, LOCALISATION, OBJECTS, OUTSIDE
from pipeline.metrics.localisation.tables import LocalisationParams as Chosen
from pipeline.models.classifier import Classifier
from tests.metrics.faithfulness.world import OBJECT, OneState, linear, small, table

SIDE = len(OBJECT)
MASK = np.where(OBJECT > 0, 255, 0).astype(np.uint8)
EDGES = {"left": 8.0, "top": 6.0, "right": 18.0, "bottom": 14.0}
FAR = {"left": 0.0, "top": 60.0, "right": 24.0, "bottom": 64.0}
MASKING = {name: small(name) for name in ("average_drop", "average_gain", "average_increase")}


def chosen(*metrics: str, reading: Any = "corrected") -> Chosen:
    return Chosen(reading=reading, tolerance=15.0, metrics=metrics or tuple(METRICS), box_study=())


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Image 0 has a box, 1 a mask, 2 neither, and 3 a box that is cropped away."""
    monkeypatch.chdir(tmp_path)
    square, tall = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((64, SIDE, 3), np.uint8)
    write(
        IMAGES,
        prepared_file("some", IMAGES),
        IMAGES.from_lines(
            [
                {
                    "image": image,
                    "encoded": encode_png(tall if image == 3 else square),
                    "mask": encode_png(MASK) if image == 1 else None,
                }
                for image in range(4)
            ]
        ),
    )
    boxes = [{"image": 0, "number": 0, **EDGES}, {"image": 3, "number": 0, **FAR}]
    write(BOXES, prepared_file("some", BOXES), BOXES.from_lines(boxes))
    return "some"


@pytest.fixture
def objects(dataset: str) -> FrameObjects:
    return FrameObjects(*frame_objects(dataset, range(4), SIDE, 1.0, reading="corrected"), SIDE)


@pytest.fixture(scope="module")
def model() -> Classifier:
    return linear((OBJECT - 0.07 * (1 - OBJECT)) / 8, bias=-2.0)


@pytest.fixture(scope="module")
def pictures() -> dict[int, np.ndarray]:
    grey = (90 + 90 * OBJECT + np.random.default_rng(1).integers(0, 40, (4, SIDE, SIDE))).astype(np.uint8)
    return dict(enumerate(np.repeat(grey[..., None], 3, axis=-1)))


def rows(labels: Any = (1, 1, 1, 0)) -> pd.DataFrame:
    return table(4, [1, 1, 1, 1]).assign(label=list(labels))


def measured(
    objects: FrameObjects,
    pictures: dict[int, np.ndarray],
    maps: np.ndarray,
    model: Classifier | None,
    settings: Chosen,
    of: pd.DataFrame | None = None,
    values: Any = "unit",
) -> pd.DataFrame:
    states: Any = None if model is None else OneState(model)
    given = rows() if of is None else of
    found = measure_localisation(
        settings, states, given, pictures, maps=list(maps), objects=objects, values=values, interpolation="bilinear"
    )
    check(LOCALISATION, found, "here")
    return found


def test_ground_truth_is_brought_into_the_frame(dataset: str, objects: FrameObjects) -> None:
    known, boxes = frame_objects(dataset, range(4), SIDE, 1.0, reading="corrected")
    check(OBJECTS, known, "here")
    check(FRAME_BOXES, boxes, "here")
    assert known["boxes"].tolist() == [1, 1, 0, 1]
    assert boxes[["image", "left", "top", "right", "bottom"]].to_numpy().tolist() == [
        [0, 8, 6, 18, 14],
        [1, 8, 6, 18, 14],
    ]
    found = objects.of([1, 3, 2])
    np.testing.assert_array_equal(found.masks[0], OBJECT > 0)
    assert found.boxed.tolist() == [True, True, False]
    assert found.masked.tolist() == [True, False, False]
    assert found.present.tolist() == [[True], [False], [False]]
    assert objects.has_boxes


def test_a_box_beyond_its_image_is_named(dataset: str) -> None:
    write(BOXES, prepared_file("some", BOXES), BOXES.from_lines([{"image": 0, "number": 2, **EDGES, "right": 30.0}]))
    message = rf"^{prepared_file('some', BOXES)}: image 0, box 0: found right 30; allowed: 0 to {SIDE}, on an image of"
    with pytest.raises(UserError, match=message):
        frame_objects(dataset, [0], SIDE, 1.0, reading="corrected")


def test_an_image_that_is_not_there_is_named(dataset: str, objects: FrameObjects) -> None:
    with pytest.raises(UserError, match=r"images\.parquet: there is no image 9; it is damaged"):
        frame_objects(dataset, [0, 9], SIDE, 1.0, reading="corrected")
    with pytest.raises(UserError, match=r"^table objects: found no image 9; "):
        objects.of([0, 9])


def test_a_data_set_without_ground_truth_has_none(dataset: str) -> None:
    objects = FrameObjects(*frame_objects(dataset, [2], SIDE, 1.0, reading="corrected"), SIDE)
    assert not objects.has_boxes


def test_lines_are_of_images_with_the_truth_that_a_metric_needs(
    objects: FrameObjects, pictures: dict[int, np.ndarray], model: Classifier
) -> None:
    maps = np.random.default_rng(0).random((4, SIDE, SIDE))
    found = measured(objects, pictures, maps, model, chosen())
    images = {"boxes": [100, 101, 103], "mask": [101], "none": [100, 101, 102, 103]}
    for name, metric in METRICS.items():
        own = found[found["metric"] == name]
        assert sorted(own["row"].unique()) == images[metric.truth], name
        gone = own[own["row"] == 103]
        if metric.truth == "boxes":
            assert gone["reason"].tolist() == [OUTSIDE]
        assert len(own[own["row"] == 101]) == (100 if name.startswith("box_accuracy") else 1), name
    assert (found["turn"] == found["row"] - 100).all()
    tolerant = found[(found["metric"] == "tolerant_pointing_game") & (found["row"] == 100)]
    assert tolerant["at"].tolist() == [pytest.approx(15 * SIDE / 224)]


def test_maps_as_small_as_their_layer_are_enlarged(objects: FrameObjects, pictures: dict[int, np.ndarray]) -> None:
    coarse = np.zeros((4, 6, 6), np.float32)
    coarse[:, 2, 3] = 1
    found = measured(objects, pictures, coarse, None, chosen("standard_pointing_game", "mask_pointing_game"))
    assert found["value"].dropna().tolist() == [1, 1, 1]


def test_a_constant_map_is_null_with_its_reason(objects: FrameObjects, pictures: dict[int, np.ndarray]) -> None:
    found = measured(objects, pictures, np.ones((4, SIDE, SIDE)), None, chosen("box_accuracy", "mass_accuracy"))
    assert found["reason"].fillna("").tolist() == [FLAT, FLAT, OUTSIDE, ""]
    assert found["value"].iloc[3] == pytest.approx(OBJECT.mean())
    assert found["at"].isna().all()


def test_the_first_guess_has_to_be_right_for_the_official_metric(
    objects: FrameObjects, pictures: dict[int, np.ndarray]
) -> None:
    maps = np.repeat(OBJECT[None], 4, axis=0)
    found = measured(objects, pictures, maps, None, chosen("official_metric", "localization_error"), rows((1, 0, 1, 1)))
    values = found.dropna(subset="value").set_index(["metric", "row"])["value"].to_dict()
    assert values == {
        ("official_metric", 100): 0,
        ("official_metric", 101): 1,
        ("localization_error", 100): 0,
        ("localization_error", 101): 0,
    }


def test_rows_other_than_references_are_passed_over(objects: FrameObjects, pictures: dict[int, np.ndarray]) -> None:
    maps = np.random.default_rng(0).random((4, SIDE, SIDE))
    mixed = rows().assign(kind=["reference", "transform", "reference", "random"])
    found = measured(objects, pictures, maps, None, chosen("energy_pointing_game"), mixed)
    whole = measured(objects, pictures, maps, None, chosen("energy_pointing_game"))
    assert found["value"].tolist() == whole[whole["row"] == 100]["value"].tolist()
    assert len(found) == 1


def test_the_saliency_metric_asks_about_the_box_of_the_map(
    objects: FrameObjects, pictures: dict[int, np.ndarray], model: Classifier
) -> None:
    maps = np.zeros((4, SIDE, SIDE))
    maps[:, 6:14, 8:18] = 1
    maps[3] = 0.5  # has no box
    found = measured(objects, pictures, maps, model, chosen("saliency_metric"))
    for row, picture in list(pictures.items())[:3]:
        cut = cut_out(picture, [8, 6, 18, 14], "bilinear")
        score = model(model.normalize(cut[None])).softmax(dim=1)[0, 1].item()
        expected = np.log(80 / SIDE**2) - np.log(score)
        assert found["value"].iloc[row] == pytest.approx(expected, rel=1e-5)
    assert found["reason"].iloc[3] == FLAT


def test_scores_that_are_no_numbers_are_refused(objects: FrameObjects, pictures: dict[int, np.ndarray]) -> None:
    broken = linear(np.full((SIDE, SIDE), np.nan))
    with pytest.raises(UserError, match=r"^the model: found a score that is not a finite number; allowed: "):
        measured(objects, pictures, np.random.default_rng(0).random((4, SIDE, SIDE)), broken, chosen("saliency_metric"))


def test_a_cut_out_is_the_part_enlarged() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(cut_out(picture, [0, 0, 8, 8], "bilinear"), picture)
    np.testing.assert_array_equal(cut_out(picture, [3, 3, 3, 3], "bilinear"), picture)
    assert (cut_out(picture, [2, 5, 3, 6], "bicubic") == picture[5, 2]).all()
    several = CutOuts({4: picture, 7: picture}, {7: [0, 0, 1, 1]}, "bilinear")
    assert (list(several), len(several)) == ([7], 1)
    assert (several[7] == picture[0, 0]).all()


def study(
    objects: FrameObjects, pictures: dict[int, np.ndarray], model: Classifier, maps: Any, reading: Any = "corrected"
) -> pd.DataFrame:
    states: Any = OneState(model)
    found = study_boxes(
        MASKING, states, rows(), pictures, objects=objects, chosen=chosen(reading=reading), seed=0, maps=maps
    )
    check(BOX_STUDY, found, "here")
    return found


def test_the_box_of_what_the_model_looks_at_gains_and_the_rest_drops(
    objects: FrameObjects, pictures: dict[int, np.ndarray], model: Classifier
) -> None:
    found = study(objects, pictures, model, None)
    assert sorted(found["row"].unique()) == [100, 101], "of the others no box is in the frame"
    means = found.groupby(["part", "metric"])["value"].mean()
    assert tuple(found["part"].unique()) == ALONE
    assert means["box", "average_drop"] == 0  # what it hides speaks against the class
    assert means["box", "average_gain"] > 0
    assert means["box", "average_increase"] == 100
    assert means["outside_box", "average_drop"] > 50
    assert means["outside_box", "average_gain"] == 0


def test_maps_cut_to_the_box_and_to_the_rest(
    objects: FrameObjects, pictures: dict[int, np.ndarray], model: Classifier
) -> None:
    ones = np.ones((4, SIDE, SIDE))
    found = study(objects, pictures, model, list(ones))
    assert tuple(found["part"].unique()) == OF_MAP
    alone = study(objects, pictures, model, None)
    for part, same in (("map_inside_box", "box"), ("map_outside_box", "outside_box")):
        cut, own = (frame[frame["part"] == name] for frame, name in ((found, part), (alone, same)))
        assert cut["value"].tolist() == own["value"].tolist(), "a map of ones, cut, is the box"
    assert (found[found["part"] == "map"]["value"] == 0).all()
    half = study(objects, pictures, model, list(ones / 2))
    inside = half[half["part"] == "map_inside_box"]["value"].tolist()
    assert inside != found[found["part"] == "map_inside_box"]["value"].tolist(), "it keeps its values"


def test_the_published_reading_draws_other_pixels(
    objects: FrameObjects, pictures: dict[int, np.ndarray], model: Classifier
) -> None:
    corrected, published = (study(objects, pictures, model, None, reading) for reading in ("corrected", "published"))
    assert corrected["value"].tolist() != published["value"].tolist(), "rows by x: the box lies elsewhere"


def test_nothing_is_studied_without_boxes(dataset: str, pictures: dict[int, np.ndarray], model: Classifier) -> None:
    known, boxes = frame_objects(dataset, range(4), SIDE, 1.0, reading="corrected")
    bare = FrameObjects(known.assign(boxes=0), boxes.head(0), SIDE)
    assert not len(study(bare, pictures, model, None))
