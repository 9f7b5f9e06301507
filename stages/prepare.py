"""Write a dataset's images, boxes, splits and plan, once their suites have passed."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline import params, storage, tables
from pipeline.expectations import Validator
from pipeline.plan import draw_plan
from pipeline.registry import DATASETS
from pipeline.splits import draw_splits
from stages.command import run


def main(dataset: str) -> None:
    """Load one dataset and draw what all its models and methods share."""
    seed = params.read("seed", params.Seed)
    loader = DATASETS.find(params.read(f"datasets.{dataset}.loader", str), f"datasets.{dataset}.loader")
    settings = params.read(f"datasets.{dataset}", loader.settings)
    plan_settings = params.read("plan", params.PlanSettings)

    collection = loader.load(settings, seed)
    splits = draw_splits(collection, settings.split, seed, dataset)
    plan = draw_plan(splits, plan_settings, settings.image_size, seed, dataset)
    masks: Any = collection.masks or [None] * len(collection.images)
    images = pd.DataFrame({"image": np.arange(len(masks)), "encoded": collection.images, "mask": masks})
    boxes = tables.from_lines(
        "boxes",
        [
            {"image": image, "number": number, **asdict(box)}
            for image, of_image in enumerate(collection.boxes or ())
            for number, box in enumerate(of_image)
        ],
    )

    validator = Validator()
    validator.check("splits", splits, str(storage.splits_file(dataset)))
    validator.check("plan", plan, str(storage.plan_file(dataset)))
    validator.check("boxes", boxes, str(storage.boxes_file(dataset)))
    tables.write("images", storage.images_file(dataset), images)
    tables.write("boxes", storage.boxes_file(dataset), boxes)
    tables.write("splits", storage.splits_file(dataset), splits)
    tables.write("plan", storage.plan_file(dataset), plan)


if __name__ == "__main__":
    run(main, "dataset")
