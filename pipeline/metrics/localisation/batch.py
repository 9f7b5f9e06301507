"""What localisation metrics are given: some maps with their ground truth, and what several metrics need of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.core.params import Positive, Settings
from pipeline.data.framing import Boxes, Objects, Reading
from pipeline.data.geometry import Mask
from pipeline.metrics.localisation.boxes import Floats, Maps, iou, largest_component_boxes, union, wrapped_union
from pipeline.metrics.localisation.threshold_scan import STEPS, overlaps

TOLERANCE_SIDE = 224
"""Side of the images, in pixels, that the tolerance of the pointing game is said for."""


class LocalisationSettings(Settings):
    """How maps are compared with ground truth.

    Attributes:
        reading: ``corrected``, or ``published``: as source 004 did, with its errors; see docs/localisation.md.
        tolerance: radius of the tolerant pointing game's disc, in pixels of an image of 224; others scale with it.
    """

    reading: Reading
    tolerance: Positive


@dataclass(frozen=True, eq=False)
class Batch:
    """N maps with the objects of their images.

    Signed and ternary maps count by their positive part, evidence for the class, wherever values are added up or
    thresholded, and by the values themselves where only their order counts.

    Attributes:
        maps: (N, H, W), finite, at the size of the model's input.
        objects: of the N images.
        settings: how they are compared.
        right: bool (N,), whether the model's first guess is the image's class.
        scores: (N,), softmax score of the explained class on what `pipeline.metrics.localisation.cut_outs` cuts out;
            None if that was not asked for.
    """

    maps: Maps
    objects: Objects
    settings: LocalisationSettings
    right: npt.NDArray[np.bool_]
    scores: Floats | None = None

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def published(self) -> bool:
        """Whether source 004 is followed in what it gets wrong."""
        return self.settings.reading == "published"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the maps."""
        return self.maps.shape[1], self.maps.shape[2]

    @cached_property
    def positive(self) -> Floats:
        """The positive part of the maps, (N, H, W)."""
        return np.maximum(self.maps, 0).astype(np.float64, copy=False)

    @cached_property
    def flat(self) -> Mask:
        """Which maps have no order, (N,): all their values are equal."""
        return (self.maps.min(axis=(1, 2)) == self.maps.max(axis=(1, 2))).astype(bool)

    @cached_property
    def highest(self) -> Mask:
        """The highest pixels of each map, (N, H, W)."""
        return np.asarray(self.maps == self.maps.max(axis=(1, 2), keepdims=True))

    @cached_property
    def inside(self) -> Mask:
        """The pixels in the boxes of each image, (N, H, W)."""
        return union(self.objects.boxes, self.objects.present, self.shape)

    @cached_property
    def covered(self) -> Mask:
        """`inside`, as the reading has it: source 004 fills other pixels."""
        if not self.published:
            return self.inside
        return wrapped_union(self.objects.boxes, self.objects.present, self.shape)

    @cached_property
    def map_boxes(self) -> Boxes:
        """The tight box of the largest 4-connected component above the mean of each map's positive part, (N, 4).

        In the published reading the last row and column do not count: right is the last pixel's number, not one more.
        """
        above = self.positive > self.positive.mean(axis=(1, 2), keepdims=True)
        boxes = largest_component_boxes(above)
        return boxes - np.array([0, 0, 1, 1]) if self.published else boxes

    @cached_property
    def map_box_overlaps(self) -> Floats:
        """The greatest overlap of each map's box with a box of the image, (N,)."""
        return self.best_box(iou(self.map_boxes[:, None], self.objects.boxes))

    def best_box(self, values: Floats) -> Floats:
        """Return the greatest of each image's values, (N, K), one per box; 0 for an image without boxes."""
        return np.where(self.objects.present, values, 0).max(axis=1, initial=0)

    @cached_property
    def threshold_overlaps(self) -> tuple[Floats, Floats]:
        """What `pipeline.metrics.localisation.threshold_scan.overlaps` finds for each map, (N, T) both.

        In the published reading boxes are cut at 0 but not at the far end of the frame, and include their last pixel.
        """
        boxes = self.objects.boxes
        if self.published:
            boxes = np.maximum(boxes, 0) + np.array([0, 0, 1, 1])
        least, greatest = (extreme(self.positive, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
        scaled = (self.positive - least) / np.where(greatest > least, greatest - least, 1)
        largest, best = np.zeros((len(self), STEPS)), np.zeros((len(self), STEPS))
        for place in np.flatnonzero(self.objects.present.any(axis=1) & (greatest > least).ravel()):
            largest[place], best[place] = overlaps(scaled[place], boxes[place, self.objects.present[place]])
        return largest, best
