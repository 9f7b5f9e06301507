"""How a network is built and how pictures are prepared for it: everything about a trained model but its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.core.documents import read_document
from pipeline.core.files import write_json
from pipeline.core.params import Channels, Count, ImageSize, Positive, Settings, as_tuple

AUTO = "auto"
"""Stands for what timm says about an architecture."""
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], BeforeValidator(as_tuple), Field(max_length=16)]
"""Of a head's hidden layers; empty where the features go to the classes at once."""
NETWORK = "network.json"
"""File with a `Network`, in the folder of a model and in that of its cell."""


OURS = {
    "pretrained": "weights",
    "checkpoint_path": "weights",
    "pretrained_cfg": "weights",
    "pretrained_cfg_overlay": "weights",
    "pretrained_strict": "weights",
    "pretrained_custom_load": "weights",
    "pretrained_filter_fn": "weights",
    "cache_dir": "weights",
    "num_classes": "the dataset",
    "in_chans": "the pictures",
    "img_size": "image_size of the dataset",
    "features_only": "cam_layer",
    "out_indices": "cam_layer",
    "device": "COSE_DEVICE",
    "dtype": "precision",
}
"""Arguments of timm's constructors that other settings stand for."""
LARGEST = 10_000
"""Number that a constructor may be given, of blocks or channels; building more would fill the memory."""


def _for_constructor(arguments: dict[str, Any]) -> dict[str, Any]:
    for name in arguments:
        if name in OURS:
            raise ValueError(f"arguments without {name!r}, which {OURS[name]} stands for")
    numbers = list(arguments.values())
    while numbers:
        one = numbers.pop()
        if isinstance(one, list | dict):
            numbers += one.values() if isinstance(one, dict) else one
        elif isinstance(one, int | float) and abs(one) > LARGEST:
            raise ValueError(f"numbers of at most {LARGEST}")
    return arguments


class NetworkSettings(Settings):
    """A timm architecture, how pictures are prepared for it, and where its class activation maps are read.

    Attributes:
        architecture: a name of ``timm.list_models()``, or of ``timm.list_pretrained()``, such as ``resnet50.tv_in1k``.
        arguments: for timm's constructor.
        crop_fraction: part of the resized picture that is kept, or ``auto``.
        interpolation: filter that pictures are resized with, or ``auto``.
        mean: of the pictures' channels, or ``auto``.
        std: deviation likewise.
        cam_layer: path of the layer whose output makes class activation maps, or ``auto``.
        cam_layout: how that output is laid out, or ``auto``.
    """

    architecture: Annotated[str, Field(max_length=100)]
    arguments: Annotated[dict[str, Any], AfterValidator(_for_constructor)] = Field(default_factory=dict)
    crop_fraction: Annotated[float, Field(ge=0.05, le=1)] | Literal["auto"] = "auto"
    interpolation: Literal["auto", "bilinear", "bicubic"] = "auto"
    mean: Channels | Literal["auto"] = "auto"
    std: Annotated[tuple[Positive, Positive, Positive], BeforeValidator(as_tuple)] | Literal["auto"] = "auto"
    cam_layer: Annotated[str, Field(max_length=200)] = "auto"
    cam_layout: Literal["auto", "channels_first", "channels_last", "tokens"] = "auto"


class Network(Settings):
    """A network of a cell.

    Attributes:
        settings: the model's, with nothing left to timm but the CAM layer.
        classes: number of classes.
        image_size: side of the square inputs, in pixels.
        head: widths of the hidden layers between the pooled features and the classes.
    """

    settings: NetworkSettings
    classes: Count
    image_size: ImageSize
    head: Widths

    @property
    def fitting(self) -> tuple[float, Literal["bilinear", "bicubic"]]:
        """How pictures are resized for it: the part that is kept, and the filter."""
        part, interpolation = self.settings.crop_fraction, self.settings.interpolation
        if isinstance(part, str) or interpolation == "auto":
            raise ValueError("timm's values have not been filled in; see `pipeline.models.build.resolved`")
        return part, interpolation

    def write(self, folder: Path) -> None:
        """Write it into a folder, as `NETWORK`."""
        write_json(folder / NETWORK, self.model_dump())

    @classmethod
    def read(cls, folder: Path) -> Network:
        """Read it from a folder; a missing file or one that does not fit is a `UserError`."""
        return read_document(folder / NETWORK, cls)
