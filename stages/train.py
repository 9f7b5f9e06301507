"""Train one model on one dataset, with checkpoints on the way; or take the user's own weights in place of that."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import params, storage, tables
from pipeline.compute import device
from pipeline.models import BACKBONE, RANDOM, TRAINED, build, checkpoint_epochs, save_state, state_name
from pipeline.pictures import Pictures, Selection
from pipeline.randomness import stream_seed
from pipeline.training import CURVE, Split, evaluate, train
from pipeline.weights import load_own, load_pretrained
from stages.command import run


def main(dataset: str, model: str) -> None:
    """Keep the weights of every state, and write accuracies and losses."""
    seed = stream_seed(params.read("seed", params.Seed), dataset, model)
    size = params.read(f"datasets.{dataset}.image_size", params.ImageSize)
    settings = params.read(f"models.{model}", params.ModelSettings)
    recipe = params.recipe(dataset, settings, model)
    percents = params.read("plan.checkpoints", params.Percents)
    splits = tables.read("splits", storage.splits_file(dataset))
    own = settings.checkpoints.get(dataset)
    needed = splits if own is None else splits[splits["split"] != "train"]
    pictures = Pictures(storage.images_file(dataset), needed["image"], size, settings.crop_fraction)
    parts = {
        name: Split(Selection(pictures, rows["image"]), rows["label"].to_numpy(np.int64))
        for name, rows in needed.groupby("split")
    }

    fresh = partial(build, settings, int(splits["label"].max()) + 1, size, head=recipe.head)
    kept = {percent: state_name(epoch) for percent, epoch in checkpoint_epochs(percents, recipe.epochs).items()}
    classifier = fresh(seed=stream_seed(seed, TRAINED))
    with storage.whole(storage.models_folder(dataset, model)) as draft:
        draft.mkdir()

        def file(state: str) -> Path:
            return draft / f"{state}.safetensors"

        save_state(fresh(seed=stream_seed(seed, RANDOM)), file(RANDOM))
        if own is None:
            origin = {TRAINED: load_pretrained(classifier, settings, size, model)}
            classifier.to(device())
            trained_part = classifier.classifier_weights() if recipe.backbone == "frozen" else None
            if trained_part is not None:
                save_state(classifier, file(BACKBONE), set(classifier.network.state_dict()) - trained_part)

            def after_epoch(epoch: int) -> None:
                if state_name(epoch) in kept.values():
                    save_state(classifier, file(state_name(epoch)), trained_part)

            curve = train(classifier, parts["train"], parts["validation"], recipe, seed, after_epoch)
            save_state(classifier, file(TRAINED), trained_part)
        else:
            curve = pd.DataFrame(columns=CURVE)
            origin = {}
            for state, weights in sorted(own.items()):  # `trained` comes last, and stays
                where = f"params.yaml: models.{model}.checkpoints.{dataset}.{state}"
                origin[state] = load_own(classifier, weights, where)
                save_state(classifier, file(state))
            kept = {percent: state for percent, state in kept.items() if state in own}
            classifier.to(device())
        storage.write_json(draft / storage.STATES, {"checkpoints": kept, "weights_from": origin})
        metrics = {
            f"{name}_accuracy": round(evaluate(classifier, parts[name])[1], 4) for name in ("validation", "test")
        }
        storage.write_json(storage.training_metrics_file(dataset, model), metrics | {"test_images": len(parts["test"])})
        storage.write_csv(storage.training_curve_file(dataset, model), curve.round(5))


if __name__ == "__main__":
    run(main, "dataset", "model")
