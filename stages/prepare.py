"""Write a data set's images, boxes, splits and plan."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import params, tables
from pipeline.data.dataset import DATASETS
from pipeline.data.plan import draw_plan
from pipeline.data.plan_settings import PlanSettings
from pipeline.data.prepared import BOXES, IMAGES, PLAN, SPLITS, prepared_file
from pipeline.data.splits import draw_splits
from stages.command import run


def main(dataset: str) -> None:
    """Load one data set and draw what all its models and methods share."""
    seed = params.read("seed", params.Seed)
    loader = DATASETS.find(params.read(f"datasets.{dataset}.loader", str), f"datasets.{dataset}.loader")
    settings = params.read(f"datasets.{dataset}", loader.settings)
    collection = loader.load(settings, seed)
    splits = draw_splits(collection, settings.split, seed, dataset)
    plan = draw_plan(splits, params.read("plan", PlanSettings), settings.image_size, seed, dataset)
    masks: Any = collection.masks or [None] * len(collection.images)
    images = pd.DataFrame({"image": np.arange(len(masks)), "encoded": collection.images, "mask": masks})
    boxes = BOXES.from_lines(
        [
            {"image": image, "number": number, **asdict(box)}
            for image, of_image in enumerate(collection.boxes or ())
            for number, box in enumerate(of_image)
        ]
    )
    made = ((IMAGES, images), (BOXES, boxes), (SPLITS, splits), (PLAN, plan))
    tables.write_all([(table, prepared_file(dataset, table), frame) for table, frame in made])


if __name__ == "__main__":
    run(main, "dataset", tables=True)
