"""Train a cell's model, with checkpoints on the way; or take it as it is, or the user's own weights."""

import tempfile

import numpy as np
import pandas as pd

from pipeline.core import params, tables
from pipeline.core.files import atomic_write, write_csv, write_json
from pipeline.core.randomness import stream_seed
from pipeline.data.labels import check_labels
from pipeline.data.pictures import Selection, decode
from pipeline.data.prepared import IMAGES, SPLITS, prepared_file
from pipeline.models.build import own_classes, resolved
from pipeline.models.learner import Split, evaluate
from pipeline.models.network import Network
from pipeline.models.obtain import obtain_states, take_as_it_is
from pipeline.models.recipe import TrainEntry, read_train_entry
from pipeline.models.trained import model_folder
from pipeline.models.training import CURVE
from pipeline.models.training_metrics import training_curve_file, training_metrics_file
from stages.command import run


def main(cell: str) -> None:
    """Keep the weights of every state, and write accuracies and losses."""
    entry = read_train_entry(cell)
    with params.entry("models", entry.model):
        _train(cell, entry)


def _train(cell: str, entry: TrainEntry) -> None:
    dataset, model, settings, size = entry.dataset, entry.model, entry.settings, entry.image_size
    seed = stream_seed(entry.seed, dataset, model)
    splits = tables.read(SPLITS, prepared_file(dataset, SPLITS))
    described = resolved(settings.network())
    where = params.at(f"training.{dataset}")
    classes = int(splits["label"].max()) + 1 if entry.recipe else own_classes(described, where)
    check_labels(splits, classes, f"{prepared_file(dataset, SPLITS)}", f"models.{model}")
    head = entry.recipe.head if entry.recipe else ()
    network = Network(settings=described, classes=classes, image_size=size, head=head)
    learned = entry.recipe is not None and dataset not in settings.checkpoints
    needed = splits if learned else splits[splits["split"] != "train"]
    with tempfile.TemporaryFile() as file, atomic_write(model_folder(cell)) as draft:
        table = prepared_file(dataset, IMAGES)
        pictures = decode(table, needed["image"], size, network.fitting, file=file)
        parts = {
            str(name): Split(Selection(pictures, rows["image"]), rows["label"].to_numpy(np.int64))
            for name, rows in needed.groupby("split")
        }
        curve = pd.DataFrame(columns=CURVE)
        if entry.recipe is None:
            classifier = take_as_it_is(draft, network, model, settings, layers=entry.layers, seed=seed)
        else:
            classifier, curve = obtain_states(
                draft,
                network,
                model,
                dataset,
                settings=settings,
                recipe=entry.recipe,
                percents=entry.checkpoints,
                parts=parts,
                seed=seed,
            )
        accuracy = {
            f"{name}_accuracy": round(evaluate(classifier, parts[name])[1], 4)
            for name in ("validation", "test")
            if name in parts
        }
        write_json(training_metrics_file(cell), accuracy | {"test_images": len(parts["test"])})
        write_csv(training_curve_file(cell), curve.round(5))


if __name__ == "__main__":
    run(main, "cell")
