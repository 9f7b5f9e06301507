"""Where a network's class activation map is read, and how the activations there are laid out.

The user may say it (a dotted path of attributes and indices, such as ``layer4.-1``); ``auto`` takes it from timm's own
description of the network, its ``feature_info``. Nothing here asks for a model's name.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.models.network import AUTO

Layout = Literal["channels_first", "channels_last", "tokens"]


class CamLayer(NamedTuple):
    """A layer that class activation maps are read from.

    Attributes:
        path: attributes and indices that lead to it.
        layout: of its output: (N, C, h, w), (N, h, w, C) or, for tokens, (N, prefix + h * w, C).
        side: h and w of a grid of tokens; None to take the largest square that there are tokens for.
    """

    path: str
    layout: Layout
    side: int | None


def layer_at(network: nn.Module, path: str) -> nn.Module:
    """Return the layer at a path; one that leads nowhere is a `UserError` that says where it ends."""
    layer: Any = network
    for part in path.split("."):
        try:
            layer = layer[int(part)] if part.lstrip("-").isdecimal() else getattr(layer, part)
        except (AttributeError, IndexError, TypeError, KeyError, ValueError):
            parts = ", ".join(name for name, _ in layer.named_children()) if isinstance(layer, nn.Module) else "none"
            raise UserError(
                params.at("models.*.cam_layer"), f"found {path!r}", fix=f"there is no {part!r} (here: {parts})"
            ) from None
    if not isinstance(layer, nn.Module):
        raise UserError(params.at("models.*.cam_layer"), f"found {path!r}, which is not a layer")
    return layer


def find(network: nn.Module, path: str, layout: str, image_size: int) -> CamLayer:
    """Return where a network's class activation map is read.

    Where the last features of the network are channels first, as those of convolutional networks are, they are it.
    Where they are tokens or channels last, it is the first norm of the last block: behind that block the classes may
    hang on the class token alone, and the rest has no gradient. (grad-cam's examples take the same layers.)

    Args:
        network: in evaluation mode, on the CPU.
        path: what params.yaml says, ``auto`` to find out.
        layout: likewise.
        image_size: side of its input in pixels.

    Raises:
        UserError: the path leads nowhere, or timm does not say enough; then params.yaml must.
    """
    info = _features(network)
    if path != AUTO:
        layer_at(network, path)
    elif not info or info["module"] not in dict(network.named_modules()):
        raise UserError(
            params.at("models.*.cam_layer"),
            "found 'auto', but timm does not say where the last features of this architecture are",
            expected="a path",
        )
    chosen = info["module"] if path == AUTO else path
    shape = _output_shape(network, chosen, image_size)
    found = _layout(shape, info.get("num_chs")) if layout == AUTO else layout
    if path == AUTO and found != "channels_first":
        block = _last_block(network, chosen)
        if hasattr(layer_at(network, block), "norm1"):
            chosen = f"{block}.norm1"
            shape = _output_shape(network, chosen, image_size)
            found = _layout(shape, info.get("num_chs")) if layout == AUTO else layout
    if found is None:
        raise UserError(
            params.at("models.*.cam_layout"),
            f"found 'auto', but timm does not say how the output of {chosen} is laid out ({shape})",
            expected="a layer with another output, or its layout",
        )
    if not _possible(found, shape):
        raise UserError(
            params.at("models.*.cam_layout"),
            f"found {found!r} for layer {chosen}, whose output has shape {shape} for a square picture",
        )
    side = _side(shape, info.get("reduction"), image_size) if found == "tokens" else None
    return CamLayer(chosen, found, side)  # type: ignore[arg-type]


def runs(path: str, times: int) -> UserError:
    """Return the error for a layer that does not run once in a forward pass."""
    return UserError(
        params.at("models.*.cam_layer"),
        f"found {path!r}, which runs {times} times in a forward pass",
        expected="a layer that runs once",
    )


def _features(network: nn.Module) -> dict[str, Any]:
    """Return what timm says of a network's last features: their module, channels and reduction."""
    info: Any = getattr(network, "feature_info", None) or [{}]
    return dict((info if isinstance(info, list) else info.info)[-1])


def _output_shape(network: nn.Module, path: str, image_size: int) -> tuple[int, ...] | None:
    """Return the shape of a layer's output for one image; None unless it is a tensor."""
    outputs: list[Any] = []

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append(output)

    handle = layer_at(network, path).register_forward_hook(note)
    try:
        run(network, image_size)
    finally:
        handle.remove()
    if len(outputs) != 1:
        raise runs(path, len(outputs))
    return tuple(outputs[0].shape) if isinstance(outputs[0], torch.Tensor) else None


def run(network: nn.Module, image_size: int) -> Any:
    """Return what a network makes of one black picture; one that cannot be run is a `UserError`."""
    try:
        with torch.inference_mode():
            return network(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # whatever the network and its libraries raise
        raise UserError(
            params.at("models.*"),
            f"the network does not run on a picture of {image_size} pixels a side "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            expected="other arguments, another architecture, or another image_size of the dataset",
        ) from None


def _layout(shape: tuple[int, ...] | None, channels: int | None) -> Layout | None:
    if shape is None:
        return None
    if len(shape) == 3 and shape[2] == channels:
        return "tokens"
    # As many channels as pixels a side tell nothing.
    if len(shape) == 4 and shape[1] != shape[3] and channels in (shape[1], shape[3]):
        return "channels_first" if shape[1] == channels else "channels_last"
    return None


def _possible(layout: str, shape: tuple[int, ...] | None) -> bool:
    """Say whether an output may be laid out so: a square picture becomes a square grid."""
    if layout == "tokens":
        return shape is not None and len(shape) == 3
    return (
        shape is not None
        and len(shape) == 4
        and (shape[1:3] if layout == "channels_last" else shape[2:]) in [(side, side) for side in shape]
    )


def _last_block(network: nn.Module, path: str) -> str:
    """Follow a stage, and stages in it, to its last block."""
    while True:
        layer: Any = layer_at(network, path)
        inner = getattr(layer, "blocks", layer)
        if not isinstance(inner, nn.Sequential | nn.ModuleList) or not len(inner):
            return path
        path = f"{path}{'' if inner is layer else '.blocks'}.{len(inner) - 1}"


def _side(shape: tuple[int, ...] | None, reduction: int | None, image_size: int) -> int | None:
    """Return the side of a grid of tokens: what timm's reduction makes of the image, if there are tokens enough."""
    side = -(-image_size // reduction) if reduction else 0
    return side if shape is not None and len(shape) == 3 and 0 < side * side <= shape[1] else None
