"""Explain every row of a plan with one method on one model in all its states."""

from pipeline import params, pictures, storage, tables
from pipeline.compute import device
from pipeline.explanation import explain_rows
from pipeline.models import build
from pipeline.registry import METHODS
from pipeline.rows import in_first
from stages.command import run


def main(dataset: str, model: str, method: str) -> None:
    """Write a map for every row of the images that the method explains, of the class predicted there, and an index."""
    chosen = METHODS.find(method, "saliency")
    own = params.read(f"saliency.{method}", chosen.settings)
    seed = params.read("seed", params.Seed)
    size = params.read(f"datasets.{dataset}.image_size", params.ImageSize)
    settings = params.network(model)
    head = params.read(f"training.{dataset}.head", params.Widths)
    splits = tables.read("splits", storage.splits_file(dataset))
    plan, predictions = in_first(
        tables.read("plan", storage.plan_file(dataset)),
        tables.read("predictions", storage.predictions_file(dataset, model)),
        own.images,
    )
    loaded = pictures.Pictures(storage.images_file(dataset), plan["image"], size, settings.crop_fraction)
    classifier = build(settings, int(splits["label"].max()) + 1, size, seed=0, head=head).to(device())

    def explain(classifier, images, targets, seeds):  # type: ignore[no-untyped-def]
        return chosen.explain(classifier, images, targets, own, seeds)

    weights = storage.models_folder(dataset, model)
    with storage.whole(storage.explanations_folder(dataset, model, method)) as draft:
        draft.mkdir()
        index = explain_rows(
            classifier, weights, plan, predictions, loaded, explain, chosen.storage, chosen.cost(own).at_once, seed,
            draft / storage.MAPS,
        )  # fmt: skip
        tables.write("index", draft / storage.INDEX, index)


if __name__ == "__main__":
    run(main, "dataset", "model", "method")
