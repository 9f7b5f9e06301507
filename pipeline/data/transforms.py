"""The input transforms: what they are called, how far they go, and whether a saliency map should follow them.

Only declarations. `pipeline.data.perturb` applies them to images and `pipeline.data.geometry` undoes their geometry on
maps, so a stage that needs neither starts without the libraries for images.

Signs: a positive translation moves the picture right or down; a positive angle turns it counter-clockwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STEPS_PER_SIDE = 31
"""Magnitudes on each side of zero."""
TRANSLATION_PER_SIDE = 32 / 224
"""The farthest translation, as a part of the image's side."""
ENHANCEMENT = 0.99
"""The strongest change of brightness, colour, contrast and sharpness; their factor is 1 + magnitude."""

IDENTITY = "identity"
"""What the plan calls an input that is left as it is; not a transform."""


@dataclass(frozen=True)
class Transform:
    """One way to perturb an image.

    Attributes:
        kind: whether maps should follow it (geometric) or ignore it (photometric).
        limit: greatest magnitude, the least is its negative; None for a transform without magnitude. In degrees for
            the rotation, as a part of the image's side for translations.
        whole_pixels: whether magnitudes are pixels, to be rounded.
    """

    kind: Literal["geometric", "photometric"]
    limit: float | None = None
    whole_pixels: bool = False

    def ladder(self, size: int) -> list[float]:
        """Return the magnitudes to draw from, in ascending order; none for a transform without magnitude.

        31 evenly spaced steps on each side of zero, which is left out. Translations are rounded to whole pixels: on
        small images some steps coincide or vanish, and each distinct non-zero one is kept once.

        Args:
            size: side of the images, in pixels.

        >>> TRANSFORMS["translate_x"].ladder(8)
        [-1.0, 1.0]
        """
        if self.limit is None:
            return []
        limit = self.limit * size if self.whole_pixels else self.limit
        side = [limit * step / STEPS_PER_SIDE for step in range(1, STEPS_PER_SIDE + 1)]
        if self.whole_pixels:
            side = sorted({float(round(value)) for value in side} - {0.0})
        return [-value for value in reversed(side)] + side


TRANSFORMS: dict[str, Transform] = {
    "translate_x": Transform("geometric", TRANSLATION_PER_SIDE, whole_pixels=True),
    "translate_y": Transform("geometric", TRANSLATION_PER_SIDE, whole_pixels=True),
    "rotate": Transform("geometric", 135.0),
    "flip_lr": Transform("geometric"),
    "flip_ud": Transform("geometric"),
    "brightness": Transform("photometric", ENHANCEMENT),
    "color": Transform("photometric", ENHANCEMENT),
    "contrast": Transform("photometric", ENHANCEMENT),
    "sharpness": Transform("photometric", ENHANCEMENT),
    "autocontrast": Transform("photometric"),
    "equalize": Transform("photometric"),
    "blur": Transform("photometric"),
    "smooth": Transform("photometric"),
}
"""The thirteen of the paper, under the names that torchvision and Pillow give them."""
