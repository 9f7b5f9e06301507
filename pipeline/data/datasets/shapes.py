"""Drawn objects on photographs, with the mask of every object: a dataset whose ground truth is known.

Ten classes: five shapes (circle, cross, square, star, triangle), each solid or framed (its core in a second colour).
Nothing but the shape and its fill tells the class: every silhouette's area comes from the same distribution whatever
the shape, solid and framed ones have the same silhouettes, and colours are drawn alike for all. Place, size, turn,
colours and background vary from image to image; backgrounds are patches of the photographs that scikit-image
carries, at random zoom.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Annotated

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydantic import Field, model_validator
from skimage import data

from pipeline.core.params import Settings as Section
from pipeline.core.randomness import generator
from pipeline.data.dataset import Collection, Dataset, DatasetSettings, SplitSettings
from pipeline.data.decode import Pixels, encode_png

Points = npt.NDArray[np.float64]
Share = Annotated[float, Field(gt=0, le=0.25)]

SUPERSAMPLING = 8
CORE = 0.55
"""Side of a framed object's core as a part of the object's."""
CONTRAST = 110.0
"""Least distance in RGB (0 to 255 per channel) of an object's colour from its surroundings, so that it can be seen."""
PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "retina",
    "rocket",
)


class AreaSettings(Section):
    """Area of an object as a part of the image's."""

    smallest: Share
    largest: Share

    @model_validator(mode="after")
    def _ordered(self) -> AreaSettings:
        if self.smallest > self.largest:
            raise ValueError("smallest must not exceed largest")
        return self


class Settings(DatasetSettings):
    """How many images are drawn, and how large their objects are."""

    images: Annotated[int, Field(ge=50, le=10**6)]
    area: AreaSettings
    split: SplitSettings


def _polar(radii: npt.ArrayLike, count: int) -> Points:
    angles = 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(radii, count)[:, None]


def _cross(half_width: float = 0.3) -> Points:
    arm = [(1, half_width), (half_width, half_width)]
    quarter_turn = np.array([[0, -1], [1, 0]])
    corners = [np.array(arm) @ np.linalg.matrix_power(quarter_turn, turn).T for turn in range(4)]
    return np.concatenate(corners)


def _unit_area(points: Points) -> Points:
    x, y = points.T
    area = 0.5 * abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))))
    return points / np.sqrt(area)


SHAPES: dict[str, Points] = {
    "circle": _unit_area(_polar(1.0, 64)),
    "cross": _unit_area(_cross()),
    "square": _unit_area(_polar(1.0, 4)),
    "star": _unit_area(_polar([1.0, 0.45], 10)),
    "triangle": _unit_area(_polar(1.0, 3)),
}
"""Outlines round the origin, all of area 1: points (P, 2) as (x, y)."""
FILLS = ("solid", "framed")
CLASSES = [f"{fill} {shape}" for shape, fill in product(SHAPES, FILLS)]


def photographs() -> list[Pixels]:
    """Return the backgrounds as RGB arrays, each of its own size."""
    loaders: list[Callable[[], npt.NDArray[np.uint8]]] = [getattr(data, name) for name in PHOTOGRAPHS]
    loaded = [load() for load in loaders]
    return [np.repeat(one[..., None], 3, axis=2) if one.ndim == 2 else one[..., :3] for one in loaded]


def _background(rng: np.random.Generator, photograph: Pixels, size: int) -> npt.NDArray[np.float64]:
    largest = max(size, min(photograph.shape[:2]) // 2)
    side = min(int(rng.integers(size, largest + 1)), *photograph.shape[:2])
    top = int(rng.integers(photograph.shape[0] - side + 1))
    left = int(rng.integers(photograph.shape[1] - side + 1))
    patch = Image.fromarray(photograph[top : top + side, left : left + side])
    return np.asarray(patch.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float64)


def _coverage(outline: Points, size: int) -> npt.NDArray[np.float64]:
    """Return how much of each pixel the polygon covers, in [0, 1]."""
    fine = size * SUPERSAMPLING
    canvas = Image.new("L", (fine, fine))
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in outline * SUPERSAMPLING], fill=255)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float64) / 255


def _colour(rng: np.random.Generator, others: list[Points]) -> Points:
    while True:
        colour = rng.uniform(0, 255, 3)
        if all(np.linalg.norm(colour - other) >= CONTRAST for other in others):
            return colour


def draw(
    rng: np.random.Generator, backgrounds: list[Pixels], label: int, size: int, *, area: AreaSettings
) -> tuple[Pixels, Pixels]:
    """Draw one image.

    Args:
        rng: the source of everything random.
        backgrounds: photographs, see `photographs`.
        label: position in `CLASSES`.
        size: side of the image in pixels.
        area: range of the object's area.

    Returns:
        The image, uint8 (size, size, 3), and the mask of its object, uint8 (size, size), 255 where more than half of
        a pixel is covered by the silhouette.
    """
    shape, fill = list(product(SHAPES, FILLS))[label]
    background = _background(rng, backgrounds[int(rng.integers(len(backgrounds)))], size)
    scale = float(np.sqrt(rng.uniform(area.smallest, area.largest))) * size
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    outline = SHAPES[shape] @ rotation.T * scale
    reach = np.minimum(np.abs(outline).max(axis=0), size / 2)
    centre = rng.uniform(reach, size - reach)

    coverage = _coverage(outline + centre, size)
    surroundings = background[coverage > min(0.5, 0.9 * coverage.max())].mean(axis=0)
    colour = _colour(rng, [surroundings])
    picture = background + coverage[..., None] * (colour - background)
    if fill == "framed":
        core = _coverage(outline * CORE + centre, size)[..., None]
        picture += core * (_colour(rng, [surroundings, colour]) - picture)
    return np.round(picture).astype(np.uint8), np.where(coverage > 0.5, 255, 0).astype(np.uint8)


def load(settings: Settings, seed: int) -> Collection:
    """Draw the dataset: classes in turn, each image from a generator of its own."""
    backgrounds = photographs()
    labels = np.arange(settings.images, dtype=np.int64) % len(CLASSES)
    drawn = [
        draw(generator(seed, "shapes", number), backgrounds, int(label), settings.image_size, area=settings.area)
        for number, label in enumerate(labels)
    ]
    return Collection(
        class_names=CLASSES,
        names=[f"shape-{number:05d}" for number in range(settings.images)],
        labels=labels,
        images=[encode_png(picture) for picture, _ in drawn],
        masks=[encode_png(mask) for _, mask in drawn],
    )


DATASET = Dataset(Settings, load)
