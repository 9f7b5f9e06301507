"""Train one model on one dataset, with checkpoints on the way."""

from pipeline import params, pictures, storage, tables
from pipeline.compute import device
from pipeline.models import RANDOM, TRAINED, build, checkpoint_epochs, save_state, state_name
from pipeline.randomness import stream_seed
from pipeline.training import Split, evaluate, train
from stages.command import run


def main(dataset: str, model: str) -> None:
    """Train, keep the weights of every state, and write accuracies and losses."""
    seed = stream_seed(params.read("seed", params.Seed), dataset, model)
    size = params.read(f"datasets.{dataset}.image_size", params.ImageSize)
    settings = params.read(f"models.{model}", params.ModelSettings)
    recipe = params.read(f"training.{dataset}", params.TrainingSettings)
    percents = params.read("plan.checkpoints", params.Percents)
    splits = tables.read("splits", storage.splits_file(dataset))
    loaded = pictures.load(storage.images_file(dataset), splits["image"], size, settings.crop_fraction)
    parts = {name: Split(*pictures.stack(loaded, rows)) for name, rows in splits.groupby("split")}

    classes = int(splits["label"].max()) + 1
    kept = set(checkpoint_epochs(percents, recipe.epochs).values())
    classifier = build(settings, classes, size, stream_seed(seed, TRAINED)).to(device())
    with storage.whole(storage.models_folder(dataset, model)) as draft:
        save_state(build(settings, classes, size, stream_seed(seed, RANDOM)), draft / f"{RANDOM}.safetensors")

        def after_epoch(epoch: int) -> None:
            if epoch in kept:
                save_state(classifier, draft / f"{state_name(epoch)}.safetensors")

        curve = train(classifier, parts["train"], parts["validation"], recipe, seed, after_epoch)
        save_state(classifier, draft / f"{TRAINED}.safetensors")
        accuracies = {
            f"{name}_accuracy": round(evaluate(classifier, parts[name])[1], 4) for name in ("validation", "test")
        }
        storage.write_json(storage.training_metrics_file(dataset, model), accuracies)
        storage.write_csv(storage.training_curve_file(dataset, model), curve.round(5))


if __name__ == "__main__":
    run(main, "dataset", "model")
