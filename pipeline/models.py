"""Models: timm architectures behind one contract, and their weights on disk.

A model is an entry of ``models`` in params.yaml, so adding one needs no code. What the entry leaves to timm (``auto``)
is taken from timm's description of the architecture; nothing here asks for a model's name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline import cam_layer
from pipeline.cam_layer import CamLayer
from pipeline.errors import UserError, unknown_name
from pipeline.images import Pixels
from pipeline.params import AUTO, NetworkSettings
from pipeline.randomness import stream_seed
from pipeline.startup import without_compiler
from pipeline.storage import whole

with without_compiler():
    import timm

TRAINED, RANDOM = "trained", "random"
BACKBONE = "backbone"
"""Name of the file with what all trained states share, where training leaves it as it is."""


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

    def __init__(self, network: nn.Module, settings: NetworkSettings, cam: CamLayer | None = None) -> None:
        """Wrap a network.

        Args:
            network: maps (N, 3, H, W) to logits (N, classes).
            settings: its normalisation, and its CAM layer where ``cam`` is None.
            cam: its CAM layer.

        Raises:
            UserError: the network has no layer at the path of ``settings.cam_layer``.
        """
        super().__init__()
        self.network = network
        for name, values in zip(("mean", "std"), _normalization(settings), strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.cam = cam or CamLayer(settings.cam_layer, settings.cam_layout, None)  # type: ignore[arg-type]
        self.cam_layer = cam_layer.layer_at(network, self.cam.path)
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
        if self.cam.layout == "tokens" and activations.ndim == 3:
            side = self.cam.side or math.isqrt(activations.shape[1])
            patches = activations[:, -side * side :]
            return patches.transpose(1, 2).unflatten(2, (side, side))
        if self.cam.layout == "channels_last" and activations.ndim == 4:
            return activations.permute(0, 3, 1, 2)
        if self.cam.layout == "channels_first" and activations.ndim == 4:
            return activations
        raise UserError(
            f"params.yaml: models: cam_layout: found {self.cam.layout!r} for layer {self.cam.path}, whose output has "
            f"shape {tuple(activations.shape)}"
        )

    def classifier(self) -> nn.Module:
        """Return the part behind the features: what is trained where the backbone is frozen.

        Raises:
            UserError: timm knows of none, or of several.
        """
        return cam_layer.layer_at(self.network, _classifier_path(self.network))

    def classifier_weights(self) -> set[str]:
        """Return the names of the weights behind the features among the network's."""
        prefixes = tuple(f"{path}." for path in _classifier_paths(self.network))
        return {name for name in self.network.state_dict() if name.startswith(prefixes)}

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the classifier is given for normalised images, (N, F)."""
        kept: list[torch.Tensor] = []

        def note(layer: nn.Module, inputs: Any) -> None:
            kept.append(inputs[0])

        handle = self.classifier().register_forward_pre_hook(note)
        try:
            self(images)
        finally:
            handle.remove()
        return kept[0]


def _normalization(settings: NetworkSettings) -> tuple[Any, Any]:
    """Return mean and deviation, timm's where params.yaml leaves them to it."""
    described = timm.get_pretrained_cfg(settings.architecture) if AUTO in (settings.mean, settings.std) else None
    return (
        described.mean if described is not None and settings.mean == AUTO else settings.mean,
        described.std if described is not None and settings.std == AUTO else settings.std,
    )


def _classifier_paths(network: nn.Module) -> tuple[str, ...]:
    paths = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return (paths,) if isinstance(paths, str) else tuple(paths)


def _classifier_path(network: nn.Module) -> str:
    """Return where the one classifier is; it is a linear layer, or our own layers in its place."""
    paths = _classifier_paths(network)
    if len(paths) != 1:
        raise UserError(f"params.yaml: training: head, backbone: timm knows {len(paths)} classifiers of this "
                        "architecture, not one, so it can only be trained as a whole and without hidden layers; "
                        "allowed: head: [] and backbone: trained")  # fmt: skip
    layer = cam_layer.layer_at(network, paths[0])
    if not isinstance(layer, nn.Linear | nn.Sequential):
        raise UserError("params.yaml: training: head, backbone: this architecture's classifier is no linear layer but "
                        f"{type(layer).__name__}; allowed: head: [] and backbone: trained")  # fmt: skip
    return paths[0]


def _with_head(network: nn.Module, widths: tuple[int, ...], classes: int) -> None:
    """Put hidden layers with ReLU before the classes, in place of timm's linear classifier."""
    path = _classifier_path(network)
    linear: Any = cam_layer.layer_at(network, path)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((linear.in_features, *widths)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    network.set_submodule(path, nn.Sequential(*layers, nn.Linear(widths[-1], classes)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators for a block of code that has no other way, and put them back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def build(
    settings: NetworkSettings, classes: int, image_size: int, seed: int, head: tuple[int, ...] = ()
) -> Classifier:
    """Build a model with fresh weights.

    Args:
        settings: the model's entry in params.yaml.
        classes: number of classes.
        image_size: side of its square inputs, in pixels.
        seed: of the initialisation; the global generators are left as they were.
        head: widths of the hidden layers between the pooled features and the classes, each followed by ReLU.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        UserError: timm has no such architecture or it does not take the arguments or the head, or the CAM layer does
            not exist.
    """
    check_architecture(settings.architecture, "params.yaml: models: architecture")
    options = arguments(settings, image_size)
    with seeded(stream_seed(seed, "weights")):
        try:
            network = timm.create_model(settings.architecture, pretrained=False, num_classes=classes, **options)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise UserError(
                f"params.yaml: models: arguments: found {settings.arguments}; timm's {settings.architecture} does not "
                f"take them ({' '.join(str(error).split())})"
            ) from None
        if head:
            _with_head(network, head, classes)
    network.eval()
    return Classifier(
        network, settings, cam_layer.find(network, settings.cam_layer, settings.cam_layout, image_size)
    ).eval()


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


def save_state(model: Classifier, path: Path, names: Collection[str] | None = None) -> None:
    """Write weights of a model as safetensors, whole or not at all; all of them, or those of some names."""
    state = model.network.state_dict()
    chosen = {
        name: tensor.detach().cpu().contiguous() for name, tensor in state.items() if names is None or name in names
    }
    with whole(path) as draft:
        save_file(chosen, draft)


def load_state(model: Classifier, path: Path) -> None:
    """Read weights into a model.

    What the file lacks is taken from the file `BACKBONE` beside it, where there is one.

    Raises:
        UserError: the file is missing, is no safetensors file, or does not fit the model; the message names the first
            weight that does not fit.
    """
    own = model.network.state_dict()
    state = read_state(path)
    shared = path.with_name(f"{BACKBONE}.safetensors")
    if not own.keys() <= state.keys() and shared.exists():
        state = read_state(shared) | state
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


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return what a safetensors file holds; a missing or unreadable one is a `UserError`."""
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such checkpoint; `dvc repro` makes it") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    return state
