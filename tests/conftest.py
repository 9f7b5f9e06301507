"""Small models and images that many tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models import Classifier
from pipeline.params import ModelSettings

SIDE, CLASSES = 24, 4


def model_settings(cam_layer: str, cam_layout: str = "channels_first") -> ModelSettings:
    return ModelSettings(
        architecture="test",
        arguments={},
        weights=None,
        crop_fraction=1.0,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        cam_layer=cam_layer,
        cam_layout=cam_layout,
        recipes={},
        checkpoints={},
    )


def small_convnet(classes: int = CLASSES) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(12 * (SIDE // 4) ** 2, classes),
        )
    network[-1].weight.data *= 4
    return Classifier(network, model_settings("3")).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def convnet() -> Classifier:
    return small_convnet()


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """Five smooth pictures, so that LIME finds superpixels."""
    rng = np.random.default_rng(5)
    coarse = rng.random((5, 4, 4, 3))
    fine = np.stack([np.kron(one, np.ones((SIDE // 4, SIDE // 4, 1))) for one in coarse])
    return (fine * 230 + rng.random(fine.shape) * 25).astype(np.uint8)


@pytest.fixture(scope="session")
def images(convnet: Classifier, pixels: np.ndarray) -> torch.Tensor:
    return convnet.normalize(pixels)


@pytest.fixture(scope="session")
def targets() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 3, 1])
