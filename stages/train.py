"""Train a cell's model, with checkpoints on the way; or take the user's own weights in place of that."""

import tempfile

import numpy as np

from pipeline.core import tables
from pipeline.core.files import whole, write_csv, write_json
from pipeline.core.randomness import stream_seed
from pipeline.data.pictures import Selection, decode
from pipeline.data.prepared import IMAGES, SPLITS, prepared_file
from pipeline.models.build import resolved
from pipeline.models.learner import Split, evaluate
from pipeline.models.network import Network
from pipeline.models.obtain import obtain_states
from pipeline.models.recipe import read_train_entry
from pipeline.models.trained import model_folder
from pipeline.models.training_metrics import training_curve_file, training_metrics_file
from stages.command import run


def main(cell: str) -> None:
    """Keep the weights of every state, and write accuracies and losses."""
    entry = read_train_entry(cell)
    dataset, model, settings, size = entry.dataset, entry.model, entry.settings, entry.image_size
    seed = stream_seed(entry.seed, dataset, model)
    splits = tables.read(SPLITS, prepared_file(dataset, SPLITS))
    network = Network(settings=resolved(settings.network()), classes=int(splits["label"].max()) + 1, image_size=size,
                      head=entry.recipe.head)  # fmt: skip
    needed = splits[splits["split"] != "train"] if dataset in settings.checkpoints else splits
    with tempfile.TemporaryFile() as file, whole(model_folder(cell)) as draft:
        table = prepared_file(dataset, IMAGES)
        pictures = decode(table, needed["image"], size, *network.fitting, file)
        parts = {
            name: Split(Selection(pictures, rows["image"]), rows["label"].to_numpy(np.int64))
            for name, rows in needed.groupby("split")
        }
        classifier, curve = obtain_states(
            draft, network, model, dataset, settings, entry.recipe, entry.checkpoints, parts, seed
        )  # fmt: skip
        accuracy = {name: round(evaluate(classifier, parts[name])[1], 4) for name in ("validation", "test")}
        metrics = {f"{name}_accuracy": value for name, value in accuracy.items()}
        write_json(training_metrics_file(cell), metrics | {"test_images": len(parts["test"])})
        write_csv(training_curve_file(cell), curve.round(5))


if __name__ == "__main__":
    run(main, "cell")
