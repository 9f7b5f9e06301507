"""What a dataset is: the settings that each has, the images that a loader returns, and the loaders there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.params import Count, Fraction, ImageSize, PathText, Settings
from pipeline.core.registry import Registry


class SplitSettings(Settings):
    """Fractions of the images that are held out, class by class, or a test split that is not drawn.

    Attributes:
        validation: the fraction for validation, of all images, or of the training images where the test split is given;
            not used where a validation split is given too.
        test: the fraction for testing, or where the split comes from: ``official`` is the publisher's. A folder of
            pictures may have ``folders`` (train, test and perhaps validation) or ``table`` (a file splits.csv).
    """

    validation: Fraction
    test: Fraction | Literal["official", "folders", "table"]


class DatasetSettings(Settings):
    """What every dataset has; a loader adds its own keys.

    Attributes:
        loader: the name of its loader.
        source: where the pictures come from, a path that DVC watches: the user's folder, or the lock file that pins the
            packages which carry or draw them.
        image_size: side of every model's input in pixels.
        split: how the images are shared out, which a loader requires by declaring it as `SplitSettings`; None where
            all of them test models that were trained elsewhere.
    """

    loader: str
    source: PathText | Literal[""]
    image_size: ImageSize
    split: SplitSettings | None = None


class ArchivedSettings(DatasetSettings):
    """What the datasets have that are published as archives.

    Attributes:
        folder: where the archives lie, or are downloaded to, or where they have been unpacked.
        images: how many images the dataset has, so that an incomplete copy is found out.
        split: fractions, or the publisher's own test split.
    """

    folder: PathText
    images: Count
    split: SplitSettings


@dataclass(frozen=True)
class Box:
    """A box round an object, in pixels of the image file: edges, so that right - left is its width.

    (0, 0, 1, 1) is the first pixel.
    """

    left: float
    top: float
    right: float
    bottom: float


LONGEST_NAME = 500


def check_names(names: Iterable[str], kind: str, source: str) -> None:
    """Raise a `UserError` for the first name that is not printable, or too long.

    Args:
        names: the names.
        kind: what they are names of, for the message.
        source: where they come from, likewise.
    """
    for name in names:
        # What is not UTF-8 in a file's name comes as lone surrogates, which are not printable either.
        if not name.isprintable() or not name or len(name) > LONGEST_NAME:
            raise UserError(
                source,
                f"found the {kind} name {name[:100]!r}",
                expected=f"printable UTF-8 of at most {LONGEST_NAME} characters",
                fix="rename it",
            )


@dataclass(frozen=True)
class Collection:
    """All images of a dataset.

    Attributes:
        class_names: the classes; a label is a position in this list.
        names: one readable name per image, such as its path below the dataset's root.
        labels: int64 array (N,), the class of each image.
        images: the bytes of one image file each, in any format Pillow reads: a list, or a sequence that reads each when
            it is asked for (`pipeline.data.image_files`), where memory does not hold all.
        masks: the bytes of one PNG each, same size as the image, non-zero where the object is, None for an image
            without; None if the dataset has no ground truth of this kind.
        boxes: the boxes round the objects of each image, an empty list for an image without; None if the dataset
            has no ground truth of this kind.
        splits: "train", "validation" or "test" for each image, if the publisher or the user fixed it (no image need be
            "validation", and if all are "test", some classes may have none); None otherwise.
    """

    class_names: list[str]
    names: list[str]
    labels: npt.NDArray[np.int64]
    images: Sequence[bytes]
    masks: Sequence[bytes | None] | None = None
    boxes: Sequence[Sequence[Box]] | None = None
    splits: list[str] | None = None

    def check_texts(self, source: str) -> None:
        """Raise a `UserError` for a name of an image or a class that no table holds or no line shows.

        Args:
            source: where the images come from, for the message.
        """
        check_names(self.class_names, "class", source)
        check_names(self.names, "image", source)

    @property
    def only_tests(self) -> bool:
        """Whether all images test models that were trained elsewhere."""
        return self.splits is not None and set(self.splits) == {"test"}


@dataclass(frozen=True)
class Dataset:
    """A loader of images.

    Attributes:
        settings: the type of a section ``datasets.<name>`` whose ``loader`` is this one.
        load: ``(settings, seed) -> Collection``; ``seed`` is the user's.
        missing: ``settings -> lines``: what the loader needs that is not here, one line each.
    """

    settings: type[DatasetSettings]
    load: Callable[[Any, int], Collection]
    missing: Callable[[Any], list[str]] = lambda _: []


DATASETS: Registry[Dataset] = Registry("pipeline.data.datasets", "DATASET", "dataset loader")
