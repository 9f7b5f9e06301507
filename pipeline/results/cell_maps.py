"""What there is to show of a cell: its pictures, classes and objects, and the maps of each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core.tables import read
from pipeline.data.framing import carry_mask
from pipeline.data.geometry import Mask
from pipeline.data.imagenet_classes import class_names
from pipeline.data.pictures import Pictures
from pipeline.data.prepared import IMAGES, SPLITS, prepared_file
from pipeline.metrics.map_pairs import read_maps
from pipeline.metrics.scores import SCORES, scores_file, scores_folder
from pipeline.models.cell import cell_folder, read_cell
from pipeline.models.network import Network
from pipeline.saliency.explanations import explanations_folder, read_about
from pipeline.saliency.map_file import Map, Maps, Values, enlarge


@dataclass(frozen=True)
class CellMaps:
    """What of a cell all methods share.

    Attributes:
        name: of the cell.
        rows: the table ``rows``.
        pictures: uint8 (side, side, 3), by the number of their image.
        side: of the pictures, in pixels.
        image_names: by the number of their image.
        class_names: by the number of their class, where an image of the dataset has it.
        objects: bool (side, side), true on the object, by the number of their image, where it has a mask that was
            read.
    """

    name: str
    rows: pd.DataFrame
    pictures: Pictures
    side: int
    image_names: Mapping[int, str]
    class_names: Mapping[int, str]
    objects: Mapping[int, Mask]

    @property
    def references(self) -> pd.DataFrame:
        """The reference row of each image, in the order in which the images were drawn; image numbers as index."""
        chosen = self.rows[self.rows["kind"] == "reference"].sort_values("turn")
        return chosen.set_index("image", drop=False)

    def class_name(self, label: int) -> str:
        """Return the name of a class, or its number where no image of the dataset has it."""
        return self.class_names.get(int(label), f"class {label}")

    def predicted(self, row: pd.Series) -> str:
        """Return the probability of the class that is predicted in a row, and the class, whose name may be long."""
        return f"{100 * row['probability']:.0f} % {self.class_name(row['prediction'])}"


@dataclass(frozen=True)
class MethodMaps:
    """What a method leaves of a cell.

    Attributes:
        name: of the method.
        kind: of the values of its maps.
        left_out: why there are no maps; None if there are, and only then the others count.
        place: position of the maps by the number of their row.
        maps: in that order.
        scores: the table ``scores``.
    """

    name: str
    kind: Values
    left_out: str | None
    place: Mapping[int, int]
    maps: Maps | None
    scores: pd.DataFrame

    def map_of(self, row: int, side: int) -> Map | None:
        """Return the map of a row, float64 (side, side); None if the method does not explain its image."""
        if self.maps is None or row not in self.place:
            return None
        return enlarge(self.maps[self.place[row]], side, self.kind)


def read_cell_maps(cell: str, dataset: str, masks: int) -> CellMaps:
    """Read what all methods of a cell share.

    Args:
        cell: its name.
        dataset: the name of its dataset.
        masks: of how many images, those first drawn, to read the object's mask.

    Raises:
        UserError: something is missing or does not fit.
    """
    known = read_cell(cell_folder(cell))
    splits = read(SPLITS, prepared_file(dataset, SPLITS))
    classes: dict[Any, Any] = splits.drop_duplicates("label").set_index("label")["class_name"].to_dict()
    first = known.rows["image"][known.rows["turn"] < masks].unique().tolist()
    objects = _objects(prepared_file(dataset, IMAGES), first, known.network) if first else {}
    names: dict[Any, Any] = splits.set_index("image")["name"].loc[sorted(known.pictures)].to_dict()
    side, called = known.network.image_size, class_names(classes, known.network.classes)
    return CellMaps(cell, known.rows, known.pictures, side, names, called, objects)


def _objects(table: Path, images: list[int], network: Network) -> dict[int, Mask]:
    """Return the masks of those images that have one, resized as the images are."""
    found: dict[Any, Any] = read(IMAGES, table, images).set_index("image")["mask"].dropna().to_dict()
    side, part = network.image_size, network.fitting[0]
    return {int(image): carry_mask(mask, side, part, f"{table}: image {image}") for image, mask in found.items()}


def read_method_maps(method: str, cell: CellMaps) -> MethodMaps:
    """Read a method's maps of a cell and their scores; what is missing or does not fit is a `UserError`."""
    folder = explanations_folder(cell.name, method)
    about = read_about(folder)
    if about.left_out is not None:
        return MethodMaps(method, about.values, about.left_out, {}, None, pd.DataFrame())
    rows, maps = read_maps(folder, cell.rows, about.values, cell.side)
    place = {int(row): position for position, row in enumerate(rows["row"])}
    scores = read(SCORES, scores_file(scores_folder(cell.name, method)))
    return MethodMaps(method, about.values, None, place, maps, scores)
