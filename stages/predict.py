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
    settings = params.read(f"models.{model}", params.ModelSettings)
    epochs = params.recipe_value(dataset, settings, "epochs", params.Epochs)
    head = params.recipe_value(dataset, settings, "head", params.Widths)
    splits = tables.read("splits", storage.splits_file(dataset))
    own = settings.checkpoints.get(dataset)
    plan = in_states(tables.read("plan", storage.plan_file(dataset)), epochs, None if own is None else own.keys())
    loaded = pictures.Pictures(storage.images_file(dataset), plan["image"], size, settings.crop_fraction)
    classifier = build(settings, int(splits["label"].max()) + 1, size, seed=0, head=head).to(device())
    weights = storage.models_folder(dataset, model)
    predictions = predict(classifier, weights, plan, splits, loaded, epochs)
    tables.write("predictions", storage.predictions_file(dataset, model), predictions)


if __name__ == "__main__":
    run(main, "dataset", "model")
