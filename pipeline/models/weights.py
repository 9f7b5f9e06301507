"""Weights that others trained: obtained, checked, and renamed to timm's names.

Nothing is guessed: a name that is left over, or missing, or of another shape is an error that lists it. What a
checkpoint is known to have too much or too little (the head of a self-supervised method) is said in params.yaml.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.core.files import sha256
from pipeline.core.no_compiler import without_compiler
from pipeline.core.packages import installed_files
from pipeline.data.download import download
from pipeline.models.build import arguments
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network
from pipeline.models.pins import check_pinned, pin
from pipeline.models.recipe import FileWeights, ModelSettings
from pipeline.models.weight_files import check_regular, read, tensors_inside
from pipeline.models.weight_names import State, rename

with without_compiler():
    import timm
    from huggingface_hub import try_to_load_from_cache


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
        UserError: the weights cannot be obtained, are not those that were asked for, or do not fit; one line.
    """
    where = params.at(f"models.{name}.weights")
    own, classifier = model.network.state_dict(), model.classifier_weights()
    backbone = {key: tensor for key, tensor in own.items() if key not in classifier}
    if settings.weights is None:
        return None
    if isinstance(settings.weights, FileWeights):
        backbone, origin = from_file(settings.weights, backbone, where, model.classifier_prefixes())
    else:
        state, origin = from_timm(settings, image_size, where)
        backbone = _fitting(state, backbone, (), settings.architecture)
    model.network.load_state_dict(own | backbone)
    model.cache.clear()
    return origin


def load_whole(model: Classifier, settings: ModelSettings, network: Network, name: str) -> str:
    """Give a model all the weights that its entry names, its classifier included; see `load_pretrained`."""
    where = params.at(f"models.{name}.weights")
    if settings.weights is None:
        raise UserError(where, "found null", expected="timm or a file, for a model that is not trained")
    own = model.network.state_dict()
    if isinstance(settings.weights, FileWeights):
        state, origin = from_file(settings.weights, own, where)
    else:
        state, origin = from_timm(settings, network.image_size, where, network.classes)
        state = _fitting(state, own, (), settings.architecture)
    model.network.load_state_dict(state)
    model.cache.clear()
    return origin


def load_own(model: Classifier, settings: FileWeights, where: str) -> str:
    """Give a model all the weights of a user's checkpoint, its classifier included; see `load_pretrained`."""
    state, origin = from_file(settings, model.network.state_dict(), where)
    model.network.load_state_dict(state)
    model.cache.clear()
    return origin


def from_timm(settings: ModelSettings, image_size: int, where: str, classes: int = 0) -> tuple[State, str]:
    """Return weights as timm has them, fitted to the image size, from its cache or the network.

    Args:
        settings: the model's entry in params.yaml.
        image_size: side of its input in pixels.
        where: the weights' key in params.yaml, for messages.
        classes: of the classifier; without them the weights are the backbone's.

    Returns:
        The weights, and where they are from: the revision on timm's hub, and the file's SHA-256.

    Raises:
        UserError: timm has none, they cannot be downloaded, or they are not those that were used before (`pins`).
    """
    name = settings.architecture
    if not timm.is_model_pretrained(name):
        raise UserError(where, f"found 'timm', which has no weights for {name}", expected="null or a file")
    try:
        network = timm.create_model(name, pretrained=True, num_classes=classes, **arguments(settings, image_size))
    except Exception as error:  # whatever the network and its libraries raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            where,
            f"timm's weights {name} could not be downloaded ({type(error).__name__}: {reason})",
            expected="a network, a cache filled elsewhere (HF_HOME), or a file (docs/paper.md)",
        ) from None
    return dict(network.state_dict()), _timm_origin(name, getattr(network, "pretrained_cfg", None) or {})


def _timm_origin(name: str, published: Mapping[str, Any]) -> str:
    """Say where timm's weights are from, and pin the file that they were read from."""
    file = _timm_file(published)
    if file is None:  # a version of timm that keeps it elsewhere
        return f"timm's {name}"
    found, source = sha256(file), f"timm's {name}"
    check_pinned(source, found)
    pin(source, found)
    hub = published.get("hf_hub_id")
    # The hub's cache has a folder for each revision.
    revision = f"{hub}, revision {file.parent.name}, " if hub and file.parent.parent.name == "snapshots" else ""
    return f"{source} ({revision}SHA-256 {found})"


def _timm_file(published: Mapping[str, Any]) -> Path | None:
    """Return the file in the cache of the hub, or of torch's, that timm has read."""
    if hub := published.get("hf_hub_id"):
        repository, _, revision = str(hub).partition("@")
        for file in (published.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(repository, file, revision=revision or None) if file else None
            if isinstance(found, str):
                return Path(found)
    if url := published.get("url"):
        file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(str(url)).path).name)
        return file if file.is_file() else None
    return None


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
            raise error.at(f"{where}.package: {error.where}") from None
    elif not _exists(path, f"{where}.file"):
        if settings.url is None:
            raise UserError(f"{where}.file", f"there is no file {path}", fix="place it there, or write its url")
        check = partial(_usable, settings=settings, where=where, shown=settings.url)
        download(settings.url, path, check, f"place it there by hand ({where})")
    check_regular(path, f"{where}.file: {shown}")
    found = check_sum(path, settings.sha256, f"{where}.sha256", shown)
    source = settings.url or shown
    if not settings.is_certain:
        check_pinned(source, found)
    state = tensors_inside(read(path, shown), settings.inside, shown)
    renamed = {name: tensor for name, tensor in rename(state, settings, shown).items() if not name.startswith(ignored)}
    fitting = _fitting(renamed, own, settings.fresh, shown)
    if not settings.is_certain:  # a file that does not fit is not what anybody means to keep
        pin(source, found)
    return {**own, **fitting}, f"{shown}, SHA-256 {found}"


def _exists(path: Path, where: str) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(where, f"found {str(path)[:80]!r}: {error.strerror}", expected="the path of a file") from None
    return True


def _usable(path: Path, settings: FileWeights, where: str, shown: str) -> None:
    check_sum(path, settings.sha256, f"{where}.sha256", shown)
    read(path, shown)


def check_sum(path: Path, allowed: str | None, where: str, shown: str = "") -> str:
    """Return a file's SHA-256; one that does not begin as it should is a `UserError`."""
    found = sha256(path)
    if allowed is not None and not found.startswith(allowed):
        raise UserError(
            shown or path,
            f"found SHA-256 {found} ({path.stat().st_size} bytes)",
            expected=f"{allowed} ({where})",
            fix="the file is cut short or another one: replace or remove it",
        )
    return found


def _fitting(state: State, expected: Mapping[str, torch.Tensor], fresh: Iterable[str], source: str) -> State:
    """Return the weights if they are those that are expected, but for fresh ones."""
    extra = [name for name in state if name not in expected]
    if extra:
        raise UserError(
            source,
            f"{_listed(extra)} not belong to the model",
            fix=f"weights.drop in {params.PARAMS} may leave them out",
        )
    missing = [name for name in expected if name not in state]
    missing = [name for name in missing if not any(fnmatchcase(name, pattern) for pattern in fresh)]
    if missing:
        raise UserError(
            source, f"{_listed(missing)} not come with the file", fix=f"weights.fresh in {params.PARAMS} may allow that"
        )
    for name, tensor in state.items():
        own = expected[name]
        if tensor.shape != own.shape:
            raise UserError(source, f"{name} has shape {tuple(tensor.shape)}", expected=tuple(own.shape))
        if tensor.is_floating_point() != own.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            allowed = "floating-point numbers" if own.is_floating_point() else "whole numbers"
            raise UserError(source, f"{name} has type {_type(tensor)}", expected=allowed)
        if not tensor.isfinite().all() and own.isfinite().all():
            raise UserError(source, f"{name} has NaN or infinity", expected="finite numbers")
    return {name: tensor.to(expected[name].dtype) for name, tensor in state.items()}


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} weights ({shown}{more}) do" if len(names) > 1 else f"the weight {shown} does"
