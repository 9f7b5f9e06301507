"""Predict the class of every row of a plan with one model in all its states."""

from pipeline import params, pictures, storage, tables
from pipeline.compute import device
from pipeline.models import build
from pipeline.prediction import predict
from pipeline.rows import in_states
from stages.command import run


def main(dataset: str, model: str) -> None:
    """Write the predictions that all methods share."""
    size = params.read(f"datasets.{dataset}.image_size", params.ImageSize)
    settings = params.network(model)
    head = params.read(f"training.{dataset}.head", params.Widths)
    splits = tables.read("splits", storage.splits_file(dataset))
    weights = storage.models_folder(dataset, model)
    checkpoints = {
        int(percent): state for percent, state in storage.read_json(weights / storage.STATES)["checkpoints"].items()
    }
    plan = in_states(tables.read("plan", storage.plan_file(dataset)), checkpoints)
    loaded = pictures.Pictures(storage.images_file(dataset), plan["image"], size, settings.crop_fraction)
    classifier = build(settings, int(splits["label"].max()) + 1, size, seed=0, head=head).to(device())
    predictions = predict(classifier, weights, plan, splits, loaded, checkpoints)
    tables.write("predictions", storage.predictions_file(dataset, model), predictions)


if __name__ == "__main__":
    run(main, "dataset", "model")
