"""Compare every map of one cell with its reference's."""

from pipeline import params, storage, tables
from pipeline.maps import Maps
from pipeline.scoring import explained, score_rows
from stages.command import run


def main(dataset: str, model: str, method: str) -> None:
    """Write the similarities of one cell."""
    size = params.read(f"datasets.{dataset}.image_size", params.ImageSize)
    settings = params.read("similarity", params.SimilaritySettings)
    folder = storage.explanations_folder(dataset, model, method)
    index = tables.read("index", folder / storage.INDEX)
    plan, predictions = (
        explained(tables.read(table, file), index)
        for table, file in (
            ("plan", storage.plan_file(dataset)),
            ("predictions", storage.predictions_file(dataset, model)),
        )
    )
    maps = Maps(folder / storage.MAPS, len(index))
    scores = score_rows(plan, predictions, index, maps, size, settings)
    tables.write("scores", storage.scores_file(dataset, model, method), scores)


if __name__ == "__main__":
    run(main, "dataset", "model", "method")
