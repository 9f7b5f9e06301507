"""The plan: the right rows, drawn once, the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import UserError
from pipeline.core.randomness import generator, stream_seed
from pipeline.core.tables import write
from pipeline.data.dataset import Collection, SplitSettings
from pipeline.data.plan import draw_plan, row_number
from pipeline.data.plan_settings import PlanSettings
from pipeline.data.prepared import PLAN
from pipeline.data.splits import draw_splits
from pipeline.data.transforms import TRANSFORMS


def collection(per_class: int = 30, classes: int = 4) -> Collection:
    count = per_class * classes
    return Collection(
        [f"class {i}" for i in range(classes)],
        [f"image {i}" for i in range(count)],
        np.arange(count, dtype=np.int64) % classes,
        [b""] * count,
    )


SPLIT = SplitSettings(validation=0.1, test=0.4)
SETTINGS = PlanSettings(images=10, magnitudes=6, transforms=tuple(TRANSFORMS), checkpoints=tuple(range(10, 100, 10)))


@pytest.fixture
def splits() -> pd.DataFrame:
    return draw_splits(collection(), SPLIT, 0, "test")


def test_counts_are_the_papers(splits: pd.DataFrame) -> None:
    plan = draw_plan(splits, SETTINGS, 224, 0, dataset="test")
    per_image = 7 * 6 + 6 + 1 + 9 + 1
    assert len(plan) == 10 * per_image
    assert (plan.groupby("image").size() == per_image).all()
    assert plan["row"].is_unique
    assert plan["row"].between(0, 2**63 - 1).all()
    states = plan["kind"].map({"reference": 0, "transform": 0, "random": 1, "checkpoint": 2})
    assert set(states) == {0, 1, 2}
    assert states.is_monotonic_increasing, "each state of a model is loaded once"
    assert plan["progress"].dropna().is_monotonic_increasing
    variable = plan[plan["magnitude"].notna()]
    drawn = variable.groupby(["image", "transform"])["magnitude"]
    assert (drawn.size() == 6).all()
    assert (drawn.nunique() == 6).all()
    assert (variable["magnitude"] != 0).all()
    of_image = drawn.agg(tuple).unstack()  # noqa: PD010
    assert (of_image.nunique() == 10).all(), "every image has magnitudes of its own"
    reference = plan.set_index("row").loc[plan["reference"]]
    assert (reference["kind"] == "reference").all()
    assert (reference["image"].to_numpy() == plan["image"].to_numpy()).all()


def test_images_are_spread_over_the_classes_of_the_test_split(splits: pd.DataFrame) -> None:
    images = draw_plan(splits, SETTINGS, 224, 0, dataset="test")["image"].unique()
    chosen = splits.set_index("image").loc[images]
    assert (chosen["split"] == "test").all()
    assert set(chosen["label"].value_counts()) <= {2, 3}


def test_same_seed_same_bytes_other_seed_other_plan(splits: pd.DataFrame, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(PLAN, tmp_path / name, draw_plan(splits, SETTINGS, 224, seed, dataset="test"))
    contents = [(tmp_path / name).read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]


def rows(plan: pd.DataFrame) -> pd.DataFrame:
    """Return what a plan says of each row, by its number."""
    return plan.set_index("row").sort_index()


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"images": 7}, {"images": 10}),
        ({"magnitudes": 2}, {"magnitudes": 6}),
        ({"transforms": ("rotate", "blur")}, {"transforms": tuple(TRANSFORMS)}),
        ({"checkpoints": (50,)}, {"checkpoints": (25, 50, 75)}),
    ],
)
def test_more_of_anything_leaves_the_rows_that_were_there(
    change: dict[str, Any], more: dict[str, Any], splits: pd.DataFrame
) -> None:
    fewer = rows(draw_plan(splits, SETTINGS.model_copy(update=change), 224, 0, dataset="test"))
    many = rows(draw_plan(splits, SETTINGS.model_copy(update=more), 224, 0, dataset="test"))
    assert len(fewer) < len(many)
    pd.testing.assert_frame_equal(many.loc[fewer.index], fewer)


def test_pictures_that_come_and_go_leave_the_rows_of_others(splits: pd.DataFrame) -> None:
    everything = SETTINGS.model_copy(update={"images": 48, "magnitudes": 1})
    gone = splits.loc[splits["split"] == "test", "name"].iloc[[0, 7]]
    fewer = splits[~splits["name"].isin(gone)].assign(image=lambda table: range(len(table)))
    before = draw_plan(splits, everything, 224, 0, dataset="test")
    after = draw_plan(fewer, everything.model_copy(update={"images": 46}), 224, 0, dataset="test")
    kept = ["kind", "transform", "magnitude", "progress", "reference"]
    pd.testing.assert_frame_equal(rows(before).loc[sorted(after["row"]), kept], rows(after)[kept])
    names = [table.set_index("image")["name"] for table in (splits, fewer)]
    assert rows(before).loc[sorted(after["row"]), "image"].map(names[0]).tolist() == (
        rows(after)["image"].map(names[1]).tolist()
    )


def test_fewer_images_are_those_that_were_drawn_first(splits: pd.DataFrame) -> None:
    many = draw_plan(splits, SETTINGS, 224, 0, dataset="test")
    few = draw_plan(splits, SETTINGS.model_copy(update={"images": 4}), 224, 0, dataset="test")
    assert set(few["image"]) == set(many["image"][many["turn"] < 4])
    assert sorted(many[["image", "turn"]].drop_duplicates()["turn"]) == list(range(10)), "an image has one turn"
    assert splits.set_index("image").loc[few["image"].unique(), "label"].nunique() == 4, "one of each class"


def test_a_data_set_may_have_a_number_of_images_of_its_own(splits: pd.DataFrame) -> None:
    own = SETTINGS.model_copy(update={"images_of": {"test": 4, "other": 900}})
    assert draw_plan(splits, own, 224, 0, dataset="test")["image"].nunique() == 4
    assert draw_plan(splits, own, 224, 0, dataset="another")["image"].nunique() == SETTINGS.images
    with pytest.raises(UserError, match=r"plan\.images_of\.other: found 900; allowed: at most \d+, the test images"):
        draw_plan(splits, own, 224, 0, dataset="other")


def test_some_images_may_come_before_all_others(splits: pd.DataFrame) -> None:
    names = splits.set_index("image")["name"]
    plain = draw_plan(splits, SETTINGS, 224, 0, dataset="test")
    wanted = tuple(names[image] for image in plain["image"][plain["turn"].isin([7, 3])].unique())
    plan = draw_plan(splits, SETTINGS.model_copy(update={"first": {"test": wanted}}), 224, 0, dataset="test")
    turns = plan.drop_duplicates("image").set_index("turn")["image"].sort_index()
    assert tuple(names[turns.head(2)]) == wanted
    assert set(turns) == set(plain["image"]), "their classes are not drawn more often for it"
    assert set(plan["row"]) == set(plain["row"])


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (("image 9999",), r"found 'image 9999', did you mean 'image \d+'\?; allowed: names of test images of test"),
        ((None, None), "found 'image .*' twice; allowed: once"),
    ],
)
def test_what_comes_first_is_a_test_image_and_named_once(splits: pd.DataFrame, first: Any, message: str) -> None:
    name = splits["name"][splits["split"] == "test"].iloc[0]
    settings = SETTINGS.model_copy(update={"first": {"test": tuple(one or name for one in first)}})
    with pytest.raises(UserError, match=rf"^params\.yaml: plan\.first\.test: {message}"):
        draw_plan(splits, settings, 224, 0, dataset="test")


def test_every_image_is_seen_by_networks_with_more_and_more_random_stages(splits: pd.DataFrame) -> None:
    plan = draw_plan(splits, SETTINGS.model_copy(update={"layers": 3}), 224, 0, dataset="test")
    layers = plan[plan["kind"] == "layers"]
    assert set(layers.groupby("image")["layers"].apply(tuple)) == {(1, 2, 3)}
    assert layers["image"].nunique() == SETTINGS.images
    assert layers["layers"].is_monotonic_increasing, "a stage loads every state once"
    assert plan["row"].is_unique


def test_row_numbers_depend_on_the_picture_and_the_perturbation_alone() -> None:
    row = {"kind": "transform", "transform": "rotate", "magnitude": 3.5, "progress": None, "layers": None}
    others = [
        {"kind": "random"},
        {"transform": "blur"},
        {"magnitude": -3.5},
        {"magnitude": None},
        {"progress": 10},
        {"kind": "layers", "layers": 10},
        {"kind": "layers", "layers": 1},
    ]
    numbers = [row_number("a", row), row_number("b", row), *(row_number("a", row | other) for other in others)]
    assert len(set(numbers)) == len(numbers)
    assert row_number("a", dict(row)) == numbers[0] == 530122653635645962


def test_splits_are_stratified_and_repeat() -> None:
    first, again, other = (draw_splits(collection(), SPLIT, seed, "test") for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first["split"].equals(other["split"])
    counts = first.groupby(["label", "split"]).size().unstack()  # noqa: PD010
    assert (counts["test"] == 12).all()
    assert (counts["validation"] == 3).all()


OFFICIAL = SplitSettings(validation=0.2, test="official")


def published(splits: list[str], **changes: Any) -> Collection:
    return replace(collection(), splits=splits, **changes)


def test_publishers_splits_are_kept_where_they_are_asked_for() -> None:
    fixed = published([("train", "test", "validation")[image // 4 % 3] for image in range(120)])
    assert draw_splits(fixed, OFFICIAL, 0, "test")["split"].tolist() == fixed.splits
    drawn = draw_splits(fixed, SPLIT, 0, "test")
    assert drawn.equals(draw_splits(collection(), SPLIT, 0, "test"))


def test_validation_is_taken_from_the_publishers_training_images() -> None:
    fixed = published(["train", "train", "test"] * 40)
    splits = draw_splits(fixed, OFFICIAL, 0, "test")
    assert ((splits["split"] == "test") == (np.array(fixed.splits) == "test")).all()
    for _, of_class in splits.groupby("label"):
        counts = of_class["split"].value_counts()
        assert counts["validation"] == round(0.2 * (counts["validation"] + counts["train"]))
    assert not splits.equals(draw_splits(fixed, OFFICIAL, 1, "test"))


def test_official_splits_that_cannot_be_used() -> None:
    with pytest.raises(
        UserError, match=r"datasets\.test\.split\.test: found 'official'; this dataset has no such split"
    ):
        draw_splits(collection(), OFFICIAL, 0, "test")
    labels = collection().labels
    without = ["train" if label == 1 or number % 3 else "test" for number, label in enumerate(labels)]
    with pytest.raises(UserError, match=r"the given test split has no image of class 'class 1'"):
        draw_splits(published(without), OFFICIAL, 0, "test")
    alone = ["test"] * len(labels)
    alone[int(np.flatnonzero(labels == 0)[0])] = "train"
    with pytest.raises(UserError, match=r"class 'class 0': found 1 image\(s\); allowed: at least 2, to train"):
        draw_splits(published(alone), OFFICIAL, 0, "test")


def test_where_all_images_test_nothing_is_drawn() -> None:
    labels = collection().labels % 3  # and a class is absent
    tests = published(["test"] * 120, labels=labels)
    splits = draw_splits(tests, None, 0, "test")
    assert set(splits["split"]) == {"test"}
    assert splits["label"].tolist() == labels.tolist()
    assert set(splits["class_name"]) == {"class 0", "class 1", "class 2"}
    assert draw_plan(splits, SETTINGS, 224, 0, dataset="test")["image"].nunique() == 10
    for settings in (SPLIT, OFFICIAL):
        with pytest.raises(UserError, match=r"datasets\.test\.split: found fractions; all .* allowed: no split"):
            draw_splits(tests, settings, 0, "test")
    with pytest.raises(UserError, match=r"datasets\.test\.split: missing; it has no default"):
        draw_splits(collection(), None, 0, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transforms": ("rotate", "rotatee")}, r"plan\.transforms: no transform is called 'rotatee', did you mean"),
        ({"transforms": ("rotate", "rotate")}, "found 'rotate' twice"),
        ({"images": 1000}, r"plan\.images: found 1000; allowed: at most 48, the test images of test"),
        ({"checkpoints": (10, 10)}, "found a percentage twice"),
    ],
)
def test_bad_plans(splits: pd.DataFrame, change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_plan(splits, SETTINGS.model_copy(update=change), 224, 0, dataset="test")


def test_too_many_magnitudes_for_small_images(splits: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"plan\.magnitudes: found 9; allowed: at most 4, the distinct magnitudes of"):
        draw_plan(splits, SETTINGS.model_copy(update={"magnitudes": 9}), 16, 0, dataset="test")


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (collection(per_class=4), SPLIT, r"class 'class 0': found 4 image\(s\); allowed: at least 5"),
        (collection(classes=1), SPLIT, "found 1 class; allowed: at least 2"),
        (
            collection(6),
            SplitSettings(validation=0.1, test=0.85),
            r"found 5 test and 1 validation images of 6 in class",
        ),
        (
            collection(),
            SplitSettings(validation=0.5, test=0.5),
            r"\.split: found 1 for validation \+ test; allowed: less than 1",
        ),
    ],
)
def test_bad_collections(given: Collection, settings: SplitSettings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_splits(given, settings, 0, "test")


def test_streams_depend_on_names_alone() -> None:
    assert stream_seed(0, "a", 1) == stream_seed(0, "a", 1) == 4757247737403457943
    names = [(0, "a", 1), (0, "a", "1"), (1, "a", 1), (0, "a"), (0, "a", 1, "")]
    assert len({stream_seed(*name) for name in names}) == len(names)
    assert generator(3, "x").random() == generator(3, "x").random()
