"""Write a dataset's images, boxes, splits and plan."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice, repeat
from typing import Any

import pandas as pd

from pipeline.core import params, tables
from pipeline.data.dataset import DATASETS, Collection
from pipeline.data.plan import draw_plan
from pipeline.data.plan_settings import PlanSettings
from pipeline.data.prepared import BOXES, IMAGES, PLAN, SPLITS, prepared_file
from pipeline.data.splits import draw_splits
from stages.command import run

PART = 2 * tables.ROW_GROUP
"""Images that are checked and written together, some 70 MB of ImageNet's."""


def main(dataset: str) -> None:
    """Load one dataset and draw what all its models and methods share."""
    seed = params.read("seed", params.Seed)
    loader = DATASETS.find(params.read(f"datasets.{dataset}.loader", str), f"datasets.{dataset}.loader")
    settings = params.read(f"datasets.{dataset}", loader.settings)
    with params.entry("datasets", dataset):
        collection = loader.load(settings, seed)
    collection.check_texts(f"datasets.{dataset}")
    splits = draw_splits(collection, settings.split, seed, dataset)
    plan = draw_plan(splits, params.read("plan", PlanSettings), settings.image_size, seed, dataset=dataset)
    boxes = BOXES.from_lines(
        [
            {"image": image, "number": number, **asdict(box)}
            for image, of_image in enumerate(collection.boxes or ())
            for number, box in enumerate(of_image)
        ]
    )
    made: Any = ((BOXES, boxes), (SPLITS, splits), (PLAN, plan), (IMAGES, image_parts(collection)))
    tables.write_all([(table, prepared_file(dataset, table), rows) for table, rows in made])


def image_parts(collection: Collection) -> Iterator[pd.DataFrame]:
    """Yield the table of images in parts of `PART` rows: there may be more images than memory holds."""
    masks = collection.masks if collection.masks is not None else repeat(None, len(collection.images))
    rows = enumerate(zip(collection.images, masks, strict=True))
    while part := [(image, encoded, mask) for image, (encoded, mask) in islice(rows, PART)]:
        yield pd.DataFrame(part, columns=[column.name for column in IMAGES.columns])


if __name__ == "__main__":
    run(main, "dataset")
