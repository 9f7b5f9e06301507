"""Weights that others trained: brought here, checked, and given the names that timm has for them.

Nothing is guessed: a name that is left over, or missing, or of another shape is an error that lists it. What a
checkpoint is known to have too much or too little (the head of a self-supervised method) is said in params.yaml.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.core.errors import UserError
from pipeline.core.files import sha256
from pipeline.core.no_compiler import without_compiler
from pipeline.core.packages import installed_files
from pipeline.data.download import download
from pipeline.models.build import arguments
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network
from pipeline.models.recipe import FileWeights, ModelSettings

with without_compiler():
    import timm

State = dict[str, torch.Tensor]

BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage of EfficientNet-B0 and Lite0."""


def _stage_of(block: int) -> str:
    """Return the stage of one of EfficientNet's blocks and its place there, both from 0."""
    for stage, blocks in enumerate(BLOCKS):
        if block < blocks:
            return f"{stage}.{block}"
        block -= blocks
    return f"{len(BLOCKS)}.{block}"  # which no such network has


NAMES: dict[str, list[tuple[str, str | Callable[[re.Match[str]], str]]]] = {
    "timm": [],
    # ConvNeXt's own repository, and SparK's files "in official style".
    "convnext": [
        (r"^downsample_layers\.0\.", r"stem."),
        (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
        (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"\.dwconv\.", r".conv_dw."),
        (r"\.pwconv(\d)\.", r".mlp.fc\1."),
        (r"^head\.", r"head.fc."),
        (r"^norm\.", r"head.norm."),
    ],
    # EfficientNet-PyTorch (L. Melas-Kyriazi) and what follows it: blocks are counted through, as in B0 and Lite0.
    "efficientnet_pytorch": [
        (r"^_conv_stem\.", r"conv_stem."),
        (r"^_bn0\.", r"bn1."),
        (r"^_conv_head\.", r"conv_head."),
        (r"^_bn1\.", r"bn2."),
        (r"^_fc\.", r"classifier."),
        (r"^_blocks\.(\d+)\._", lambda found: f"blocks.{_stage_of(int(found[1]))}."),
        # The first block has no expansion, and so no first norm.
        (r"^(blocks\.0\.0)\.project_conv\.", r"\1.conv_pw."),
        (r"^(blocks\.(?!0\.0\.)\d+\.\d+)\.bn(\d)\.", lambda found: f"{found[1]}.bn{int(found[2]) + 1}."),
        (r"\.expand_conv\.", r".conv_pw."),
        (r"\.depthwise_conv\.", r".conv_dw."),
        (r"\.project_conv\.", r".conv_pwl."),
    ],
    # Swin's own repository, and iBOT's: a stage ends with its downsampling, where timm's next one begins with it.
    "swin": [
        (r"^layers\.(\d+)\.downsample\.", lambda found: f"layers.{int(found[1]) + 1}.downsample."),
        (r"^head\.", r"head.fc."),
    ],
    "torchvision_swin": [
        (r"^features\.0\.0\.", r"patch_embed.proj."),
        (r"^features\.0\.2\.", r"patch_embed.norm."),
        (r"^features\.(\d+)\.(norm|reduction)\.", lambda found: f"layers.{int(found[1]) // 2}.downsample.{found[2]}."),
        (r"^features\.(\d+)\.", lambda found: f"layers.{int(found[1]) // 2}.blocks."),
        (r"\.mlp\.0\.", r".mlp.fc1."),
        (r"\.mlp\.3\.", r".mlp.fc2."),
        (r"^head\.", r"head.fc."),
    ],
    "torchvision_vit": [
        (r"^class_token$", r"cls_token"),
        (r"^conv_proj\.", r"patch_embed.proj."),
        (r"^encoder\.pos_embedding$", r"pos_embed"),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"^encoder\.ln\.", r"norm."),
        (r"\.ln_(\d)\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", r".attn.qkv."),
        (r"\.self_attention\.out_proj\.", r".attn.proj."),
        (r"\.mlp\.(linear_1|0)\.", r".mlp.fc1."),
        (r"\.mlp\.(linear_2|3)\.", r".mlp.fc2."),
        (r"^heads\.head\.", r"head."),
    ],
}
"""Whose names, and what makes timm's of them: patterns replaced one after the other."""


def load_pretrained(model: Classifier, settings: ModelSettings, image_size: int, name: str) -> str | None:
    """Give a model's backbone the weights that its entry names; its classifier stays fresh, whatever they bring.

    Args:
        model: with fresh weights.
        settings: its entry in params.yaml; without weights nothing happens.
        image_size: side of its input in pixels.
        name: its name there, for messages.

    Returns:
        Where the weights are from, with a file's checksum; None for nowhere.

    Raises:
        UserError: the weights cannot be had, are not those that were asked for, or do not fit; one line.
    """
    where = f"params.yaml: models.{name}.weights"
    own, classifier = model.network.state_dict(), model.classifier_weights()
    backbone = {key: tensor for key, tensor in own.items() if key not in classifier}
    if settings.weights is None:
        return None
    if isinstance(settings.weights, FileWeights):
        backbone, origin = from_file(settings.weights, backbone, where, model.classifier_prefixes())
    else:
        backbone = _fitting(from_timm(settings, image_size, where), backbone, (), settings.architecture)
        origin = f"timm's {settings.architecture}"
    model.network.load_state_dict(own | backbone)
    model.remembered.clear()
    return origin


def load_whole(model: Classifier, settings: ModelSettings, network: Network, name: str) -> str:
    """Give a model all the weights that its entry names, its classifier included; see `load_pretrained`."""
    where = f"params.yaml: models.{name}.weights"
    if settings.weights is None:
        raise UserError(f"{where}: found null; allowed: timm or a file, for a model that is not trained")
    own = model.network.state_dict()
    if isinstance(settings.weights, FileWeights):
        state, origin = from_file(settings.weights, own, where)
    else:
        state = from_timm(settings, network.image_size, where, network.classes)
        state = _fitting(state, own, (), settings.architecture)
        origin = f"timm's {settings.architecture}"
    model.network.load_state_dict(state)
    model.remembered.clear()
    return origin


def load_own(model: Classifier, settings: FileWeights, where: str) -> str:
    """Give a model all the weights of a user's checkpoint, its classifier included; see `load_pretrained`."""
    state, origin = from_file(settings, model.network.state_dict(), where)
    model.network.load_state_dict(state)
    model.remembered.clear()
    return origin


def from_timm(settings: ModelSettings, image_size: int, where: str, classes: int = 0) -> State:
    """Return weights as timm brings them, from its cache or the network, fitted to the image size.

    Without ``classes`` they are the backbone's.
    """
    name = settings.architecture
    if not timm.is_model_pretrained(name):
        raise UserError(f"{where}: found 'timm', which has no weights for {name}; allowed: null or a file")
    try:
        network = timm.create_model(name, pretrained=True, num_classes=classes, **arguments(settings, image_size))
    except Exception as error:  # whatever the network and its libraries raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where}: timm's {name} could not be brought ({type(error).__name__}: {reason}); allowed: a network, a "
            "cache filled elsewhere (HF_HOME), or a file (docs/paper.md)"
        ) from None
    return dict(network.state_dict())


def from_file(
    settings: FileWeights, own: Mapping[str, torch.Tensor], where: str, ignored: tuple[str, ...] = ()
) -> tuple[State, str]:
    """Return a model's weights with those of a file in their places.

    Args:
        settings: where they are and what their names become.
        own: the weights that the model has, and that those of ``settings.fresh`` keep.
        where: their key in params.yaml, for messages.
        ignored: what names begin with that the file may have and that are left out.

    Returns:
        The weights by timm's names, and the file with its checksum.

    Raises:
        UserError: see `load_pretrained`.
    """
    path, shown = Path(settings.file), settings.shown
    if settings.package is not None:
        try:
            path = installed_files(settings.package, settings.file)[0]
        except UserError as error:
            raise UserError(f"{where}.package: {error}") from None
    elif not path.exists():
        if settings.url is None:
            raise UserError(f"{where}.file: there is no file {path}; place it there, or write its url")
        check = partial(_usable, settings=settings, where=where, shown=settings.url)
        download(settings.url, path, check, f"place it there by hand ({where})")
    found = check_sum(path, settings.sha256, f"{where}.sha256", shown)
    state = _go_down(read(path, shown), settings.inside, shown)
    renamed = {name: tensor for name, tensor in rename(state, settings, shown).items() if not name.startswith(ignored)}
    fitting = _fitting(renamed, own, settings.fresh, shown)
    return {**own, **fitting}, f"{shown}, SHA-256 {found}"


def _usable(path: Path, settings: FileWeights, where: str, shown: str) -> None:
    check_sum(path, settings.sha256, f"{where}.sha256", shown)
    read(path, shown)


def check_sum(path: Path, allowed: str | None, where: str, shown: str = "") -> str:
    """Return a file's SHA-256; one that does not begin as it should is a `UserError`."""
    found = sha256(path)
    if allowed is not None and not found.startswith(allowed):
        raise UserError(f"{shown or path}: found SHA-256 {found} ({path.stat().st_size} bytes); allowed: {allowed} "
                        f"({where}); the file is cut short or another one: replace or remove it")  # fmt: skip
    return found


def read(path: Path, shown: str = "") -> Any:
    """Return what a file of weights holds, without running any code that is in it; errors may call it otherwise.

    Raises:
        UserError: it is no such file, is cut short, or holds more than tensors and plain values.
    """
    try:
        if (shown or str(path)).endswith(".safetensors"):
            return load_file(path)
        # Training programs keep their arguments beside the weights; the type has no code of its own.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())
        culprit = re.search(r"GLOBAL (\S+) was not", reason)
        held = f"an object of type {culprit[1]}" if culprit else reason[:200]
        raise UserError(f"{shown or path}: found {held}, which is not read because it might run code; allowed: a "
                        "file of tensors (torch.save(model.state_dict(), ...) or safetensors)") from None  # fmt: skip
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{shown or path}: not a readable file of weights ({reason}); it may be cut short: replace or "
                        "remove it") from None  # fmt: skip


def _go_down(content: Any, keys: Iterable[str], path: str) -> Mapping[str, Any]:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            found = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
            raise UserError(f"{path}: there is no {key!r} inside (found: {found}); params.yaml: weights.inside says so")
        content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        others = (
            [key for key in content if not isinstance(content[key], torch.Tensor)]
            if isinstance(content, Mapping)
            else []
        )
        found = f"{others[0]!r}, which is no tensor" if others else f"a {type(content).__name__}"
        raise UserError(f"{path}: found {found}; allowed: names and tensors; params.yaml: weights.inside says where in "
                        "the file they are")  # fmt: skip
    return content


def rename(state: Mapping[str, torch.Tensor], settings: FileWeights, source: str) -> State:
    """Return a checkpoint's weights under timm's names.

    Args:
        state: by the checkpoint's names.
        settings: ``drop``, ``prefixes`` and ``names`` say what becomes of them.
        source: what to call the checkpoint in messages.

    Raises:
        UserError: two names become the same.
    """
    renamed: State = {}
    for name in state:
        if any(fnmatchcase(name, pattern) for pattern in settings.drop):
            continue
        new = name
        for prefix in settings.prefixes:
            new = new.removeprefix(prefix)
        for pattern, replacement in NAMES[settings.names]:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise UserError(f"{source}: two weights become {new!r}, one of them {name!r}; allowed: one")
        renamed[new] = state[name]
    return renamed


def _fitting(state: State, expected: Mapping[str, torch.Tensor], fresh: Iterable[str], source: str) -> State:
    """Return the weights if they are those that are expected, but for fresh ones."""
    extra = [name for name in state if name not in expected]
    if extra:
        raise UserError(
            f"{source}: {_listed(extra)} not belong to the model; params.yaml: weights.drop may leave them out"
        )
    missing = [name for name in expected if name not in state]
    missing = [name for name in missing if not any(fnmatchcase(name, pattern) for pattern in fresh)]
    if missing:
        raise UserError(
            f"{source}: {_listed(missing)} not come with the file; params.yaml: weights.fresh may allow that"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise UserError(f"{source}: {name} has shape {tuple(tensor.shape)}; allowed: {tuple(expected[name].shape)}")
    return {name: tensor.to(expected[name].dtype) for name, tensor in state.items()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} weights ({shown}{more}) do" if len(names) > 1 else f"the weight {shown} does"
