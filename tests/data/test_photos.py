"""The photographs that packages carry: all there, as they are, with ImageNet's classes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import Image
from timm.data import ImageNetInfo
from torchvision.models import ResNet50_Weights

from pipeline.core import packages, params
from pipeline.core.errors import UserError
from pipeline.data.datasets import photos
from pipeline.data.imagenet_classes import imagenet_classes
from tests.world import World

SETTINGS = photos.Settings(loader="photos", source="requirements.lock", image_size=128)


def test_every_photograph_is_there_with_its_class() -> None:
    collection = photos.load(SETTINGS, 0)
    assert len(collection.images) == len(set(collection.names)) == 23
    found = dict(zip(collection.names, collection.labels.tolist(), strict=True))
    for name, label in found.items():
        assert not name.startswith("foolbox") or name.endswith(f"_{label}.jpg")
    assert found["foolbox/imagenet_17_22.jpg"] == 22
    # As the names of their classes in timm say.
    named = {"chelsea.png": "Egyptian cat", "coffee.png": "espresso", "rocket.jpg": "missile"}
    for name, said in named.items():
        assert ImageNetInfo().index_to_description(found[f"skimage/{name}"]) == said
    assert collection.splits == ["test"] * 23
    assert collection.only_tests
    assert collection.masks is None
    assert collection.boxes is None


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket"])
def test_scikit_image_shows_the_same(name: str) -> None:
    collection = photos.load(SETTINGS, 0)
    number = next(n for n, one in enumerate(collection.names) if f"/{name}." in one)
    theirs = getattr(skimage.data, name)()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(collection.images[number]))), theirs)


def test_classes_are_those_of_networks() -> None:
    classes = imagenet_classes()
    assert list(classes.values()) == ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    assert len(set(classes.values())) == 1000
    info = ImageNetInfo()
    assert list(classes) == [info.index_to_label_name(number) for number in range(1000)]
    assert list(classes) == sorted(classes)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert photos.missing(SETTINGS) == []

    def gone(package: str) -> str:
        raise packages.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(packages.metadata, "version", gone)
    assert photos.missing(SETTINGS) == [
        "the package foolbox, which `make setup` installs",
        "the package scikit-image, which `make setup` installs",
    ]
    with pytest.raises(UserError, match=r"^package foolbox: not installed; allowed: the one in requirements\.lock"):
        photos.load(SETTINGS, 0)


@pytest.mark.parametrize("name", ["imagenet_20_1000.jpg", "imagenet_20_jeep.jpg"])
def test_a_photograph_of_no_class_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "installed_files", lambda *_: [Path("foolbox/data", name)])
    with pytest.raises(UserError) as caught:
        photos.load(SETTINGS, 0)
    assert str(caught.value) == (
        f"foolbox/data/{name}: found a photograph of no class; allowed: imagenet_NN_LABEL.jpg, its label below 1000"
    )


@pytest.mark.slow
def test_the_stage_prepares_them(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.params["datasets"]["photos"] == {
        "loader": "photos",
        "source": "requirements.lock",
        "image_size": 128,
    }
    world.stage("prepare", "--dataset", "photos")
    folder = world.root / "data/prepared/photos"
    splits = pd.read_parquet(folder / "splits.parquet")
    assert set(splits["split"]) == {"test"}
    assert splits["label"].nunique() == 22
    assert pd.read_parquet(folder / "images.parquet")["encoded"].tolist() == photos.load(SETTINGS, 0).images
    plan = pd.read_parquet(folder / "plan.parquet")
    assert plan["image"].nunique() == world.params["plan"]["images_of"]["photos"]
    assert len(pd.read_parquet(folder / "boxes.parquet")) == 0


def test_there_is_nothing_to_split() -> None:
    raw = SETTINGS.model_dump() | {"split": {"validation": 0.1, "test": 0.2}}
    with pytest.raises(UserError, match=r"^params\.yaml: datasets\.photos\.split: found {.*}; allowed: "):
        params.check("datasets.photos", photos.Settings, raw)
