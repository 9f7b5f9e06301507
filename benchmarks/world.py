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
from pipeline import params
from pipeline.compute import batch_size, device, workers
from pipeline.datasets.shapes import Settings as ShapesSettings
from pipeline.datasets.shapes import load as draw_shapes
from pipeline.explanation import explain_rows
from pipeline.images import decode_images
from pipeline.models import Classifier, build, load_state, save_state
from pipeline.parallel import in_order
from pipeline.plan import draw_plan
from pipeline.prediction import predict
from pipeline.randomness import stream_seed
from pipeline.registry import METHODS
from pipeline.rows import Inputs, Part, States, parts
from pipeline.transforms import TRANSFORMS

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
    plan: pd.DataFrame
    predictions: pd.DataFrame
    pictures: dict[int, Any]
    side: int

    @property
    def on(self) -> torch.device:
        return self.model.mean.device

    def load(self, state: str) -> Classifier:
        """Return a model as the published code has it: parameters want gradients, nothing is folded."""
        load_state(self.model, self.folder / f"{state}.safetensors")
        return self.model.requires_grad_(True)

    def rows(self, positions: Iterable[int]) -> list[Row]:
        """Return rows of the plan as the libraries' loops take them."""
        chosen = np.fromiter(positions, np.int64)
        pixels = Inputs(self.plan, self.pictures).pixels(chosen)
        return [
            Row(
                self.predictions["state"][at], int(self.plan["image"][at]), one,
                int(self.predictions["prediction"][at]), stream_seed(SEED, "explain", int(self.plan["row"][at])),
            )
            for at, one in zip(chosen, pixels, strict=True)
        ]  # fmt: skip


def make_world(name: str, side: int, images: int, folder: Path) -> World:
    """Make everything that the stages need for one model.

    Args:
        name: of a model in params.yaml or of `LARGE`.
        side: of the images, in pixels.
        images: how many are explained; each has 22 rows.
        folder: where the weights go.
    """
    settings = model_settings(name)
    drawn = draw_shapes(_shapes(side), SEED)
    pixels = decode_images(drawn.images[:images], side, 1.0, "drawn")
    splits = pd.DataFrame({"image": range(images), "label": drawn.labels[:images], "split": "test"})
    plan = draw_plan(
        splits,
        params.PlanSettings(images=images, magnitudes=2, transforms=tuple(TRANSFORMS), checkpoints=()),
        side, SEED, "benchmark",
    )  # fmt: skip
    model = build(settings, CLASSES, side, SEED)
    for number, state in enumerate(("trained", "random")):
        save_state(build(settings, CLASSES, side, number), folder / f"{state}.safetensors")
    model.to(device())
    pictures = dict(enumerate(pixels))
    predictions = predict(model, folder, plan, splits, pictures, {})
    return World(name, folder, model, plan, predictions, pictures, side)


def model_settings(name: str) -> params.ModelSettings:
    """Return the settings of a model of params.yaml or of `LARGE`."""
    if name in LARGE:
        return params.ModelSettings(
            architecture=name, arguments={}, weights=None, crop_fraction=1.0, mean="auto", std="auto", cam_layer="auto",
            cam_layout="auto", recipes={}, checkpoints={},
        )  # fmt: skip
    return params.read(f"models.{name}", params.ModelSettings)


def _shapes(side: int) -> ShapesSettings:
    return ShapesSettings.model_validate(
        {"loader": "shapes", "source": "-", "image_size": side, "images": PICTURES,
         "split": {"validation": 0.1, "test": 0.1}, "area": {"smallest": 0.1, "largest": 0.25}}
    )  # fmt: skip


class Ours:
    """The explain stage on some rows of a plan, whole or the method alone."""

    def __init__(self, world: World, name: str, settings: Any, positions: Any) -> None:
        self.world, self.method, self.settings, self.positions = world, METHODS[name], settings, positions
        self.plan = world.plan.iloc[positions].reset_index(drop=True)
        self.predictions = world.predictions.iloc[positions].reset_index(drop=True)
        self.at_once = self.method.cost(settings).at_once
        self.states = States(world.model, world.folder, world.side)

    def prepare(self) -> None:
        """Make the inputs that the kernel is measured on."""
        inputs = Inputs(self.plan, self.world.pictures)
        self.ready = {
            part.positions[0]: self.world.model.normalize(inputs.pixels(part.positions)) for part in self._parts()
        }

    def _parts(self) -> list[Part]:
        size = max(1, batch_size(self.world.side, self.world.on) // self.at_once)
        return list(parts(self.predictions["state"].tolist(), size))

    def explain(
        self, model: Classifier, images: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        return self.method.explain(model, images, targets, self.settings, seeds)

    def kernel(self) -> dict[int, Any]:
        """Return the maps by position in the world's plan."""

        def work(part: Part) -> tuple[Part, Any]:
            model = self.states.model(part.state)
            targets = torch.tensor(self.predictions["prediction"].to_numpy()[part.positions]).to(self.world.on)
            rows = self.plan["row"].to_numpy()[part.positions]
            seeds = [stream_seed(SEED, "explain", int(row)) for row in rows]
            return part, self.explain(model, self.ready[part.positions[0]], targets, seeds).cpu().numpy()

        maps: dict[int, Any] = {}
        for part, values in in_order(work, self._parts(), workers(self.world.on)):
            maps.update(zip(self.positions[part.positions].tolist(), values, strict=True))
        return maps

    def stage(self) -> None:
        """Do what the stage does, from pictures and weights on disk to maps on disk."""
        explain_rows(
            self.world.model, self.world.folder, self.plan, self.predictions, self.world.pictures, self.explain,
            self.method.storage, self.at_once, SEED, self.world.folder / "maps.npy",
        )  # fmt: skip


def device_name(on: torch.device) -> str:
    """Return what to call a device in the tables."""
    return torch.cuda.get_device_name(on) if on.type == "cuda" else "cpu"
