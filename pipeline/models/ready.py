"""A model that is ready to use: one of params.yaml with classes of its own, or the trained model of a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import grid, params
from pipeline.core.device import device
from pipeline.core.errors import UserError, unknown_name
from pipeline.core.files import missing
from pipeline.core.params import ImageSize
from pipeline.core.tables import read
from pipeline.data.imagenet_classes import class_names
from pipeline.data.prepared import SPLITS, prepared_file
from pipeline.models import cam_layer
from pipeline.models.build import build, own_classes, resolved
from pipeline.models.classifier import Classifier
from pipeline.models.load import load_states
from pipeline.models.network import NETWORK, Network
from pipeline.models.recipe import ModelSettings
from pipeline.models.state_names import TRAINED
from pipeline.models.trained import model_folder
from pipeline.models.weights import load_whole

SIZE = 224
"""Side of the pictures, in pixels, where nothing says another."""


@dataclass(frozen=True)
class Ready:
    """A model in evaluation mode on its device.

    Attributes:
        name: of the model or the cell in params.yaml.
        model: the model.
        network: how it is built, and how pictures are prepared for it.
        class_names: by the number of the class, as far as they are known.
    """

    name: str
    model: Classifier
    network: Network
    class_names: Mapping[int, str]

    def at_layer(self, path: str) -> Classifier:
        """Return the same model with another CAM layer.

        Args:
            path: of the layer; its output is laid out as that of the model's own.

        Raises:
            UserError: there is no such layer, or it does not run once.
        """
        network, own = self.model.network, self.model.cam
        device = self.model.mean.device
        found = cam_layer.find(network.cpu(), path, own.layout, self.network.image_size)
        mean, std = (tensor.flatten().tolist() for tensor in (self.model.mean, self.model.std))
        return Classifier(network, mean, std, found).eval().requires_grad_(False).to(device)

    def class_name(self, label: int) -> str:
        """Return the name of a class, or its number where that is all there is."""
        return self.class_names.get(label, f"class {label}")

    def find_class(self, given: str) -> int:
        """Return the number of a class that is given by number, by name or by a part of the name.

        Raises:
            UserError: no class is called so, or several are.
        """
        if given.isdecimal():
            if int(given) >= self.network.classes:
                raise UserError("class", f"found {given}", expected=f"0 to {self.network.classes - 1}, or a name")
            return int(given)
        wanted = given.casefold()
        exact = [label for label, name in self.class_names.items() if name.casefold() == wanted]
        found = exact or [label for label, name in self.class_names.items() if wanted in name.casefold()]
        if len(found) != 1:
            named = ", ".join(f"{label} {self.class_names[label]}" for label in found[:8]) or "none"
            raise UserError(
                "class",
                f"found {given!r}, which is in the names of {len(found)} classes ({named})",
                expected=f"a number from 0 to {self.network.classes - 1}, or the name of one",
            )
        return found[0]


def ready_model(name: str | None, size: int | None) -> Ready:
    """Load a model.

    Args:
        name: of a cell whose model is trained, or of a model with weights and classes of its own; None for the first
            cell's model.
        size: side of the pictures in pixels; None for that of the cell, or of a cell with this model as it is.

    Raises:
        UserError: there is no such cell or model, it has no weights, or they are not here yet.
    """
    cells = grid.cells()
    chosen = name or next(iter(cells))
    if chosen in cells and (model_folder(chosen) / NETWORK).exists():
        return _of_cell(chosen, cells[chosen].dataset, size)
    if chosen in cells:
        if name is not None and not _is_as_it_is(cells[chosen].dataset):
            raise missing(model_folder(chosen) / NETWORK)
        chosen = cells[chosen].model
    if chosen not in params.names("models"):
        raise unknown_name(str(params.PARAMS), "model or cell", chosen, [*params.names("models"), *cells])
    return _as_it_is(chosen, size or _size_of(chosen, cells))


def _is_as_it_is(dataset: str) -> bool:
    return dataset in params.names("training") and params.read(f"training.{dataset}", object) == "none"


def _size_of(model: str, cells: Mapping[str, grid.CellSettings]) -> int:
    """Return the size of the pictures of the first cell that takes a model as it is."""
    for cell in cells.values():
        if cell.model == model and _is_as_it_is(cell.dataset):
            found: int = params.read(f"datasets.{cell.dataset}.image_size", ImageSize)
            return found
    return SIZE


def _of_cell(cell: str, dataset: str, size: int | None) -> Ready:
    folder: Path = model_folder(cell)
    network = Network.read(folder)
    if size is not None:
        network = network.model_copy(update={"image_size": size})
    splits = read(SPLITS, prepared_file(dataset, SPLITS)).drop_duplicates("label")
    known: dict[Any, Any] = splits.set_index("label")["class_name"].to_dict()
    named = class_names(known, network.classes)
    return Ready(cell, load_states(network, folder).model(TRAINED), network, named)


def _as_it_is(name: str, size: int) -> Ready:
    settings = params.read(f"models.{name}", ModelSettings)
    with params.entry("models", name):
        described = resolved(settings.network())
        classes = own_classes(described, params.at(f"models.{name}"))
        network = Network(settings=described, classes=classes, image_size=size, head=())
        model = build(network, 0)
    load_whole(model, settings, network, name)
    model.requires_grad_(False)
    return Ready(name, model.to(device()), network, class_names({}, classes))
