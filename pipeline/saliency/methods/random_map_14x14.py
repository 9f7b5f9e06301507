"""A control: noise on a grid of 14 by 14, as smooth as the maps of a CAM layer of that size."""

from __future__ import annotations

from pipeline.saliency.controls import noise_on_grid

METHOD = noise_on_grid(14)
