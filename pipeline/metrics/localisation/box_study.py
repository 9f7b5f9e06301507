"""The box study of source 004: the object's own box as a map, the rest, and maps cut to either.

Zhang et al., Opti-CAM: Optimizing saliency maps for interpretability, https://arxiv.org/abs/2301.07002, Figure 4.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipeline.data.framing import Objects, Reading
from pipeline.data.geometry import Mask
from pipeline.metrics.localisation.boxes import Floats, union, wrapped_union
from pipeline.saliency.map_file import Map

Part = Literal["box", "outside_box", "map", "map_inside_box", "map_outside_box"]
ALONE: tuple[Part, ...] = ("box", "outside_box")
"""What a picture is masked with whatever the method: S := B, and S := I \\ B."""
OF_MAP: tuple[Part, ...] = ("map", "map_inside_box", "map_outside_box")
"""What it is masked with of a map: S, B ∩ S and S \\ B."""


def box_pixels(objects: Objects, side: int, reading: Reading) -> Mask:
    """Return the pixels of an image's boxes, B.

    Args:
        objects: of N images.
        side: of the frame, in pixels.
        reading: "published" fills the pixels that source 004 fills; see docs/localisation.md.

    Returns:
        bool (N, side, side).
    """
    fill = wrapped_union if reading == "published" else union
    return fill(objects.boxes, objects.present, (side, side))


def part_of(part: Part, pixels: Mask, saliency: Map) -> Floats:
    """Return what a picture is masked with; a map that is cut keeps its values.

    Args:
        part: which part.
        pixels: bool (H, W), those of the boxes.
        saliency: (H, W), which counts for the parts of `OF_MAP` alone.

    Returns:
        float64 (H, W).
    """
    kept = pixels if part in ("box", "map_inside_box") else ~pixels
    if part == "map":
        kept = np.ones_like(pixels)
    return np.where(kept, np.ones(pixels.shape) if part in ALONE else saliency, 0.0)
