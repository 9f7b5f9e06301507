"""Small models and images that many tests share."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
# Most tests run one stage in a folder of its own, where an interpreter is preloaded for nothing.
os.environ["COSE_WARM"] = "0"

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models import pins
from pipeline.models.cam_layer import CamLayer, Layout
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network, NetworkSettings

SIDE, CLASSES = 24, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pytest_configure() -> None:
    # A job in the background ignores Ctrl-C, and one of nohup's hanging up; what it starts would, too.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


PROCESSES = ("chain", "runner", "warm")
"""Folders whose tests start the pipeline's stages, and are slow because they do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in PROCESSES and item.path.parent.parent.name == "tests":
            item.add_marker(pytest.mark.slow)


def wrapped(network: nn.Module, cam: str, layout: Layout = "channels_first") -> Classifier:
    """Return a network of a test's own as a classifier in evaluation mode, its CAM layer at a path."""
    return Classifier(network, MEAN, STD, CamLayer(cam, layout, None)).eval()


def described(architecture: str, classes: int, image_size: int, head: tuple[int, ...] = (), **settings: Any) -> Network:
    """Return a network of timm's; what is left out of its settings has its default."""
    own = NetworkSettings.model_validate({"architecture": architecture, **settings})
    return Network(settings=own, classes=classes, image_size=image_size, head=head)


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
    return wrapped(network, "3").requires_grad_(False)


@pytest.fixture(scope="session", autouse=True)
def _pins(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the checksums of the tests' weights out of the project."""
    pins.PINS = tmp_path_factory.mktemp("pins") / "weights.lock"


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


class Patch(nn.Module):
    """Looks at the pixels of one square only, through a nonlinearity."""

    TOP, LEFT, SIZE = 6, 12, 6

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = torch.zeros_like(images)
        rows, columns = slice(self.TOP, self.TOP + self.SIZE), slice(self.LEFT, self.LEFT + self.SIZE)
        seen[..., rows, columns] = (images[..., rows, columns] + 2.5).relu()
        score = self.layer(seen).square().mean(dim=(1, 2, 3)) * 8
        return torch.stack([score, -score], dim=1)


@pytest.fixture
def patch() -> Classifier:
    return wrapped(Patch(), "layer").requires_grad_(False)
