"""Small networks of timm's for the tests of models."""

from __future__ import annotations

from typing import Any

from pipeline.models.build import build
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network
from tests.conftest import described

SMALL: dict[str, Any] = {
    "arguments": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}, "crop_fraction": 1.0, "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2], "cam_layer": "layer4.-1", "cam_layout": "channels_first",
}  # fmt: skip


def small_network(classes: int = 4, size: int = 32, head: tuple[int, ...] = (), **changes: Any) -> Network:
    return described(changes.pop("architecture", "resnet18"), classes, size, head, **SMALL | changes)


def small_resnet(classes: int = 4, size: int = 32, seed: int = 0, head: tuple[int, ...] = ()) -> Classifier:
    return build(small_network(classes, size, head), seed)
