"""Building timm's architectures, by name and with what timm says about them.

A model is an entry of ``models`` in params.yaml, so adding one needs no code. What the entry leaves to timm (``auto``)
is taken from timm's description of the architecture; nothing here asks for a model's name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from pipeline.core import params
from pipeline.core.errors import UserError, unknown_name
from pipeline.core.no_compiler import without_compiler
from pipeline.core.randomness import stream_seed
from pipeline.models import cam_layer
from pipeline.models.classifier import Classifier, classifier_path
from pipeline.models.network import AUTO, Network, NetworkSettings
from pipeline.models.randomised import randomised

with without_compiler():
    import timm

CPU = torch.device("cpu")
PLAIN = {
    "crop_fraction": 0.875,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
"""How ImageNet's pictures are usually prepared for a network: for architectures that timm does not describe."""


def resolved(settings: NetworkSettings) -> NetworkSettings:
    """Return a model's settings with timm's values where they say ``auto``; the CAM layer is left as it is.

    Raises:
        UserError: timm has no such architecture.
    """
    check_architecture(settings.architecture, params.at("models.*.architecture"))
    left = [name for name in PLAIN if getattr(settings, name) == AUTO]
    if not left:
        return settings
    known: Any = timm.get_pretrained_cfg(settings.architecture)
    values = {
        name: getattr(known, "crop_pct" if name == "crop_fraction" else name, None) or PLAIN[name] for name in left
    }
    if values.get("interpolation") not in (None, "bilinear", "bicubic"):
        values["interpolation"] = "bicubic"
    return NetworkSettings.model_validate(settings.model_dump() | values)


def own_classes(settings: NetworkSettings, where: str) -> int:
    """Return how many classes an architecture's own weights tell apart; timm not saying so is a `UserError`."""
    known: Any = timm.get_pretrained_cfg(settings.architecture)
    if not getattr(known, "num_classes", 0):
        raise UserError(
            where,
            f"timm does not say how many classes {settings.architecture} was trained on, so it cannot be used as it is",
            expected="a recipe in training",
        )
    return int(known.num_classes)


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seed torch's global generators for a block of code that has no other way, and put them back afterwards.

    Args:
        seed: of the CPU's generator, and of the device's.
        device: that the block computes on; the generators of other devices are not touched.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _with_head(network: nn.Module, widths: tuple[int, ...], classes: int) -> None:
    """Put hidden layers with ReLU before the classes, in place of timm's linear classifier."""
    path = classifier_path(network)
    linear: Any = cam_layer.layer_at(network, path)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((linear.in_features, *widths)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    network.set_submodule(path, nn.Sequential(*layers, nn.Linear(widths[-1], classes)))


def build(described: Network, seed: int) -> Classifier:
    """Build a model with fresh weights.

    Args:
        described: the network.
        seed: of the initialisation; the global generators are left as they were.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        UserError: timm has no such architecture or it does not take the arguments or the head, or the CAM layer does
            not exist.
    """
    settings = resolved(described.settings)
    with seeded(stream_seed(seed, "weights")):
        network = _network(settings, described)
    cam = cam_layer.find(network, settings.cam_layer, settings.cam_layout, described.image_size)
    return Classifier(network, settings.mean, settings.std, cam).eval()  # type: ignore[arg-type]


def _network(settings: NetworkSettings, described: Network) -> nn.Module:
    """Return timm's network with fresh weights, in evaluation mode."""
    options = arguments(settings, described.image_size)
    try:
        network: nn.Module = timm.create_model(
            settings.architecture, pretrained=False, num_classes=described.classes, **options
        )
    except Exception as error:  # whatever the network and its libraries raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(
            params.at("models.*.arguments"),
            f"found {settings.arguments}, which timm's {settings.architecture} does not take ({reason})",
        ) from None
    if described.head:
        _with_head(network, described.head, described.classes)
    return network.eval()


def try_out(described: Network, name: str, *, frozen: bool, layers: int) -> None:
    """Build a network without giving it weights, and run it on one picture that has no pixels either.

    That takes a tenth of a second where a network with weights takes seconds.

    Args:
        described: the network; how many classes it has may be a guess.
        name: of the model in params.yaml, for messages.
        frozen: whether its classifier alone is trained.
        layers: how many of its stages are randomised.

    Raises:
        UserError: it cannot be built or run, its CAM layer is not there or laid out otherwise, or training or
            randomising it is not possible in this way.
    """
    settings = resolved(described.settings)
    with params.entry("models", name):
        try:
            # Without it the compiler is asked, for nothing, whether it has to keep away.
            with without_compiler(), torch.device("meta"):
                network = _try_out(settings, described)
        except UserError as error:
            if "meta" not in str(error).lower():
                raise
            with seeded(0):  # an architecture that looks at values while it is built or run
                network = _try_out(settings, described)
        if frozen:
            classifier_path(network)
        randomised(network, layers, settings.architecture)


def _try_out(settings: NetworkSettings, described: Network) -> nn.Module:
    network = _network(settings, described)
    found = cam_layer.run(network, described.image_size)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != (1, described.classes):
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(
            params.at("models.*.arguments"),
            f"found {settings.arguments}, with which timm's {settings.architecture} gives {shape} for one picture",
            expected=f"a number per class, (1, {described.classes})",
        )
    cam_layer.find(network, settings.cam_layer, settings.cam_layout, described.image_size)
    return network


def arguments(settings: NetworkSettings, image_size: int) -> dict[str, Any]:
    """Return what timm's constructor is given: the user's arguments, and the image size where it wants to know."""
    configuration = timm.get_pretrained_cfg(settings.architecture)
    sized = configuration is not None and configuration.fixed_input_size
    return ({"img_size": image_size} if sized else {}) | settings.arguments


def check_architecture(name: str, where: str) -> None:
    """Raise a `UserError` for a name that timm does not know, or knows no such weights of."""
    bare, _, tag = name.partition(".")
    if timm.is_model(bare) and tag and not timm.is_model_pretrained(name):
        raise unknown_name(where, f"kind of weights of {bare}", name, timm.list_pretrained(f"{bare}.*"))
    if not timm.is_model(bare):
        raise unknown_name(where, "timm model", name, difflib.get_close_matches(name, timm.list_models(), n=5))
