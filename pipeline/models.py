"""Models: timm architectures behind one contract, and their weights on disk.

A model is an entry of ``models`` in params.yaml, so adding one needs no code. The entry says where its class
activation map is read (a dotted path of attributes and indices, such as ``layer4.-1``) and how the activations there
are laid out; nothing here asks for a model's name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.errors import UserError, unknown_name
from pipeline.images import Pixels
from pipeline.params import ModelSettings
from pipeline.randomness import stream_seed
from pipeline.startup import without_compiler
from pipeline.storage import whole

with without_compiler():
    import timm

TRAINED, RANDOM = "trained", "random"


def checkpoint_epochs(percents: tuple[int, ...], epochs: int) -> dict[int, int]:
    """Return the epoch after which each checkpoint is taken, by percent of the training; at least epoch 1."""
    return {percent: max(1, round(epochs * percent / 100)) for percent in percents}


def state_name(epoch: int) -> str:
    """Return the name of the state after an epoch."""
    return f"epoch_{epoch:03d}"


class Classifier(nn.Module):
    """A network with its preprocessing and its CAM layer.

    Its inputs are normalised: float32 (N, 3, H, W), see `normalize`. Its outputs are logits (N, classes).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, settings: ModelSettings) -> None:
        """Wrap a network.

        Args:
            network: maps (N, 3, H, W) to logits (N, classes).
            settings: its normalisation and CAM layer.

        Raises:
            UserError: the network has no layer at the path of ``settings.cam_layer``.
        """
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings.std).view(1, 3, 1, 1), persistent=False)
        self.cam_layout = settings.cam_layout
        self.cam_path = settings.cam_layer
        self.cam_layer = _layer_at(network, settings.cam_layer)
        # What a method computed from the weights alone; gone when they change.
        self.remembered: dict[Any, torch.Tensor] = {}

    def train(self, mode: bool = True) -> Classifier:
        """Switch to training or, with ``mode=False``, evaluation."""
        self.remembered.clear()
        return super().train(mode)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of normalised images."""
        logits: torch.Tensor = self.network(images)
        return logits

    def normalize(self, pixels: Pixels) -> torch.Tensor:
        """Return uint8 images (N, H, W, 3) as the network's input on the network's device.

        The channels stay last in memory, where convolutions are fastest.
        """
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.mean.device).permute(0, 3, 1, 2)
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std

    def pixels(self, images: torch.Tensor) -> Pixels:
        """Return normalised images as uint8 (N, H, W, 3): the inverse of `normalize`."""
        scaled = (images.detach() * self.std + self.mean) * 255
        rounded = scaled.round().clamp(0, 255).to(torch.uint8)
        return rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def grid(self, activations: torch.Tensor) -> torch.Tensor:
        """Return what the CAM layer gave as (N, C, h, w).

        Tokens are laid out row by row; tokens before the grid (class, registers) are dropped.

        Raises:
            UserError: the activations do not have the layout that params.yaml names.
        """
        if self.cam_layout == "tokens" and activations.ndim == 3:
            side = int(activations.shape[1] ** 0.5)
            patches = activations[:, -side * side :]
            return patches.transpose(1, 2).unflatten(2, (side, side))
        if self.cam_layout == "channels_last" and activations.ndim == 4:
            return activations.permute(0, 3, 1, 2)
        if self.cam_layout == "channels_first" and activations.ndim == 4:
            return activations
        raise UserError(
            f"params.yaml: models: cam_layout: found {self.cam_layout!r} for layer {self.cam_path}, whose output has "
            f"shape {tuple(activations.shape)}"
        )


def _layer_at(network: nn.Module, path: str) -> nn.Module:
    layer: Any = network
    for part in path.split("."):
        try:
            layer = layer[int(part)] if part.lstrip("-").isdecimal() else getattr(layer, part)
        except (AttributeError, IndexError, TypeError, KeyError, ValueError):
            parts = ", ".join(name for name, _ in layer.named_children()) if isinstance(layer, nn.Module) else "none"
            raise UserError(
                f"params.yaml: models: cam_layer: found {path!r}; there is no {part!r} (here: {parts})"
            ) from None
    if not isinstance(layer, nn.Module):
        raise UserError(f"params.yaml: models: cam_layer: found {path!r}, which is no layer")
    return layer


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators for a block of code that has no other way, and put them back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def build(settings: ModelSettings, classes: int, image_size: int, seed: int) -> Classifier:
    """Build a model with fresh weights.

    Args:
        settings: the model's entry in params.yaml.
        classes: number of classes.
        image_size: side of its square inputs, in pixels.
        seed: of the initialisation; the global generators are left as they were.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        UserError: timm has no such architecture or it does not take the arguments, or the CAM layer does not exist.
    """
    if not timm.is_model(settings.architecture):
        close = difflib.get_close_matches(settings.architecture, timm.list_models(), n=5)
        raise unknown_name("params.yaml: models: architecture", "timm model", settings.architecture, close)
    arguments = dict(settings.arguments)
    configuration = timm.get_pretrained_cfg(settings.architecture)
    if configuration is not None and configuration.fixed_input_size:
        arguments.setdefault("img_size", image_size)
    try:
        with seeded(stream_seed(seed, "weights")):
            network = timm.create_model(settings.architecture, pretrained=False, num_classes=classes, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"params.yaml: models: arguments: found {settings.arguments}; timm's {settings.architecture} does not take "
            f"them ({' '.join(str(error).split())})"
        ) from None
    return Classifier(network, settings).eval()


def save_state(model: Classifier, path: Path) -> None:
    """Write the weights of a model as safetensors, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    with whole(path) as draft:
        save_file(state, draft)


def load_state(model: Classifier, path: Path) -> None:
    """Read weights into a model.

    Raises:
        UserError: the file is missing, is no safetensors file, or does not fit the model; the message names the first
            weight that does not fit.
    """
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint; `dvc repro` makes it") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    own = model.network.state_dict()
    for name in [*own, *state]:
        if name not in state or name not in own:
            where = "model" if name in own else "checkpoint"
            raise UserError(f"{path}: the checkpoint does not fit the model: {name} is only in the {where}")
        if own[name].shape != state[name].shape:
            found, allowed = tuple(state[name].shape), tuple(own[name].shape)
            raise UserError(f"{path}: the checkpoint does not fit the model: {name} has shape {found}; "
                            f"allowed: {allowed}")  # fmt: skip
    model.network.load_state_dict(state)
    model.remembered.clear()
