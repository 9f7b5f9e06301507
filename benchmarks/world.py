"""What a cell's stages read, made for the occasion, and the explain stage on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.libraries import Row
from pipeline.core import params
from pipeline.core.batches import batch_size
from pipeline.core.device import device, workers
from pipeline.core.parallel import in_order
from pipeline.core.randomness import stream_seed
from pipeline.core.tables import lines_of
from pipeline.data.datasets.shapes import Settings as ShapesSettings
from pipeline.data.datasets.shapes import load as draw_shapes
from pipeline.data.decode import decode_images
from pipeline.data.inputs import Inputs
from pipeline.data.plan import draw_plan
from pipeline.data.plan_settings import PlanSettings
from pipeline.data.transforms import TRANSFORMS
from pipeline.models.build import build, resolved
from pipeline.models.classifier import Classifier
from pipeline.models.network import Network
from pipeline.models.prediction import predict, rows_of
from pipeline.models.recipe import ModelSettings
from pipeline.models.states import States
from pipeline.models.sweep import Part, parts
from pipeline.models.trained import load_state, save_state
from pipeline.saliency.explain import explain_rows
from pipeline.saliency.method import METHODS

LARGE = ("resnet50", "vit_base_patch16_224")
"""Models that can be measured besides those of params.yaml."""

PICTURES, CLASSES = 50, 10
SEED = 0


@dataclass(frozen=True)
class World:
    """What a cell's stages read, made for the occasion: drawn pictures, a plan, a model with fresh weights."""

    name: str
    folder: Path
    model: Classifier
    table: pd.DataFrame
    pictures: dict[int, Any]
    side: int

    @property
    def device(self) -> torch.device:
        return self.model.mean.device

    def load(self, state: str) -> Classifier:
        """Return a model as the published code has it: parameters want gradients, nothing is folded."""
        load_state(self.model, self.folder / f"{state}.safetensors")
        return self.model.requires_grad_(True)

    def rows(self, positions: Iterable[int]) -> list[Row]:
        """Return rows as the libraries' loops take them."""
        chosen = np.fromiter(positions, np.int64)
        pixels = Inputs(self.table, self.pictures).pixels(chosen)
        return [
            Row(row.state, int(row.image), one, int(row.prediction), stream_seed(SEED, "explain", int(row.row)))
            for row, one in zip(lines_of(self.table.iloc[chosen]), pixels, strict=True)
        ]


def make_world(name: str, side: int, images: int, folder: Path) -> World:
    """Make everything that the stages need for one model.

    Args:
        name: of a model in params.yaml or of `LARGE`.
        side: of the images, in pixels.
        images: how many are explained; each has 22 rows.
        folder: where the weights go.
    """
    described = network(name, side)
    drawn = draw_shapes(_shapes(side), SEED)
    pixels = decode_images(drawn.images[:images], side, 1.0, "drawn")
    labels = drawn.labels[:images]
    splits = pd.DataFrame({"image": range(images), "name": drawn.names[:images], "label": labels, "split": "test"})
    settings = PlanSettings(images=images, magnitudes=2, transforms=tuple(TRANSFORMS), checkpoints=())
    plan = draw_plan(splits, settings, side, SEED, dataset="benchmark")
    model = build(described, SEED)
    for number, state in enumerate(("trained", "random")):
        save_state(build(described, number), folder / f"{state}.safetensors")
    model.to(device())
    pictures = dict(enumerate(pixels))
    rows = rows_of(plan, splits.set_index("image")["label"], {})
    return World(name, folder, model, predict(States(model, folder, side), rows, pictures), pictures, side)


def network(name: str, side: int) -> Network:
    """Return the description of a model of params.yaml or of `LARGE`, for images of a size."""
    known = ModelSettings(architecture=name) if name in LARGE else params.read(f"models.{name}", ModelSettings)
    return Network(settings=resolved(known.network()), classes=CLASSES, image_size=side, head=())


def _shapes(side: int) -> ShapesSettings:
    return ShapesSettings.model_validate(
        {
            "loader": "shapes",
            "source": "-",
            "image_size": side,
            "images": PICTURES,
            "split": {"validation": 0.1, "test": 0.1},
            "area": {"smallest": 0.1, "largest": 0.25},
        }
    )


class Ours:
    """The explain stage on some rows of a plan, whole or the method alone."""

    def __init__(self, world: World, name: str, settings: Any, positions: Any) -> None:
        self.world, self.method, self.settings, self.positions = world, METHODS[name], settings, positions
        self.table = world.table.iloc[positions].reset_index(drop=True)
        self.at_once = self.method.cost(settings).at_once
        self.states = States(world.model, world.folder, world.side)

    def prepare(self) -> None:
        """Make the inputs that the kernel is measured on."""
        inputs = Inputs(self.table, self.world.pictures)
        self.ready = {
            part.positions[0]: self.world.model.normalize(inputs.pixels(part.filled)) for part in self._parts()
        }

    def _parts(self) -> list[Part]:
        return list(parts(self.table, max(1, batch_size(self.world.side, self.world.device) // self.at_once)))

    def explain(
        self, model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        return self.method.explain(model, images, targets, self.settings, seeds)

    def kernel(self) -> dict[int, Any]:
        """Return the maps by position in the world's plan."""

        def work(part: Part) -> tuple[Part, Any]:
            model = self.states.model(part.state)
            targets = torch.tensor(self.table["prediction"].to_numpy()[part.filled]).to(self.world.device)
            rows = self.table["row"].to_numpy()[part.filled]
            seeds = [stream_seed(SEED, "explain", int(row)) for row in rows]
            return part, self.explain(model, self.ready[part.positions[0]], targets, seeds).cpu().numpy()

        maps: dict[int, Any] = {}
        for part, values in in_order(work, self._parts(), workers(self.world.device)):
            maps.update(zip(self.positions[part.positions].tolist(), values, strict=False))  # the rest fills the batch
        return maps

    def stage(self) -> None:
        """Do what the stage does, from pictures and weights on disk to maps on disk."""
        self.index = explain_rows(
            States(self.world.model, self.world.folder, self.world.side),
            self.table,
            self.world.pictures,
            self.explain,
            values=self.method.values,
            storage=self.method.stored_as,
            at_once=self.at_once,
            seed=SEED,
            maps_path=self.world.folder / "maps.npy",
        )


def device_name(device: torch.device) -> str:
    """Return what to call a device in the tables."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
