"""Small networks of timm's for the tests of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pipeline.models.build import build
from pipeline.models.cam_layer import Layout
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network
from tests.conftest import described

SMALL: dict[str, Any] = {
    "arguments": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]},
    "crop_fraction": 1.0,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "cam_layer": "layer4.-1",
    "cam_layout": "channels_first",
}


def small_network(classes: int = 4, size: int = 32, head: tuple[int, ...] = (), **changes: Any) -> Network:
    return described(changes.pop("architecture", "resnet18"), classes, size, head, **SMALL | changes)


def small_resnet(classes: int = 4, size: int = 32, seed: int = 0, head: tuple[int, ...] = ()) -> Classifier:
    return build(small_network(classes, size, head), seed)


FAMILIES: dict[str, tuple[str, dict[str, Any], str, Layout, Callable[[torch.Tensor], torch.Tensor]]] = {
    "resnet": (
        "resnet18",
        {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "output_stride": 8},
        "layer4.-1",
        "channels_first",
        lambda tensor: tensor,
    ),
    "vit": (
        "vit_tiny_patch16_224",
        {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
        "blocks.-1.norm1",
        "tokens",
        lambda tensor: tensor[:, 1:].reshape(len(tensor), 7, 7, -1).permute(0, 3, 1, 2),
    ),
    "xcit": (
        "xcit_nano_12_p16_224",
        {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "cls_attn_layers": 1},
        "blocks.-1.norm1",
        "tokens",
        lambda tensor: tensor.reshape(len(tensor), 7, 7, -1).permute(0, 3, 1, 2),
    ),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 7},
        "layers.-1.blocks.-1.norm1",
        "channels_last",
        lambda tensor: tensor.permute(0, 3, 1, 2),
    ),
    "convnext": (
        "convnext_atto",
        {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "output_stride": 8},
        "stages.-1.blocks.-1",
        "channels_first",
        lambda tensor: tensor,
    ),
}
"""Architecture, arguments, CAM layer, its layout, and how its output becomes (N, C, 7, 7), for images of 56 pixels."""


def of_family(family: str, classes: int = 5) -> tuple[Classifier, Callable[[torch.Tensor], torch.Tensor]]:
    """Return a small network of a family, and how its CAM layer's output becomes a grid."""
    architecture, arguments, layer, layout, to_grid = FAMILIES[family]
    network = described(architecture, classes, 56, arguments=arguments, cam_layer=layer, cam_layout=layout)
    return build(network, seed=1), to_grid
