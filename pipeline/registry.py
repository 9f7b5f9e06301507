"""The methods and the datasets: one file each, found by its name.

A dict of all methods in one file would be in the import closure of every explain stage, so adding a method would
rerun all the others. Here the folder is the registry: ``METHODS["lime"]`` is `pipeline/saliency/lime.py`, and DVC
makes a cell depend on that one file. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pipeline import storage
from pipeline.errors import unknown_name

if TYPE_CHECKING:
    import torch

    from pipeline.datasets import Collection
    from pipeline.models import Classifier
    from pipeline.params import DatasetSettings, MethodSettings

    Explain = Callable[[Classifier, torch.Tensor, torch.Tensor, Any, Sequence[int]], torch.Tensor]

StorageType = Literal["float16", "float32", "int8", "uint8"]


@dataclass(frozen=True)
class Cost:
    """Evaluations of the model that one map takes at most.

    Attributes:
        forward: images whose scores alone are asked for.
        gradient: images whose scores are differentiated with respect to the image (the forward pass is in it).
        at_once: how many of these the method makes in one batch; the rest waits for them.
    """

    forward: int = 0
    gradient: int = 0
    at_once: int = 1


@dataclass(frozen=True)
class Method:
    """A saliency method.

    Attributes:
        settings: the type of its section ``saliency.<name>`` in params.yaml.
        explain: ``(model, images[N,3,H,W], targets[N], settings, seeds) -> maps[N,H,W]``: float32 maps, row by row
            independent of each other. ``images`` are normalised for the model and float32, ``targets`` are int64
            class indices, ``seeds`` has one integer a row, from which all randomness of that row comes. Maps may be
            smaller than the images; `pipeline.maps.enlarge` is then how they are read.
        storage: the type in which its maps are kept on disk; see `pipeline.maps`.
        cost: ``settings -> Cost``.
    """

    settings: type[MethodSettings]
    explain: Explain
    storage: StorageType
    cost: Callable[[Any], Cost]


@dataclass(frozen=True)
class Dataset:
    """A loader of images.

    Attributes:
        settings: the type of a section ``datasets.<name>`` whose ``loader`` is this one.
        load: ``(settings, seed) -> Collection``; ``seed`` is the user's.
        missing: ``settings -> lines``: what the loader needs that is not here, one line each.
    """

    settings: type[DatasetSettings]
    load: Callable[[Any, int], Collection]
    missing: Callable[[Any], list[str]] = lambda _: []


Entry = TypeVar("Entry", Method, Dataset)


class Registry(Mapping[str, Entry], Generic[Entry]):
    """The entries of one folder, imported when they are asked for."""

    def __init__(self, package: str, attribute: str, kind: str) -> None:
        """Describe a folder.

        Args:
            package: the package whose modules are the entries.
            attribute: what each module calls its entry.
            kind: what an entry is called in messages.
        """
        self._package, self._attribute, self._kind = package, attribute, kind
        folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
        self._names = tuple(sorted(file.stem for file in folder.glob("[a-z]*.py")))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._names:
            raise KeyError(name)
        entry: Entry = getattr(importlib.import_module(f"{self._package}.{name}"), self._attribute)
        return entry

    def find(self, name: str, key: str) -> Entry:
        """Return the entry called ``name``; an unknown name is a `UserError` that points at ``key``."""
        if name not in self._names:
            raise unknown_name(f"{storage.PARAMS}: {key}", self._kind, name, self._names)
        return self[name]


METHODS: Registry[Method] = Registry("pipeline.saliency", "METHOD", "saliency method")
DATASETS: Registry[Dataset] = Registry("pipeline.datasets", "DATASET", "dataset loader")
