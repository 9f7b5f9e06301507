"""Build Great Expectations' pages on every table. Not a stage of the graph: its pages carry the time."""

from itertools import product

from pipeline import params, storage
from pipeline.expectations import build_docs
from stages.command import run


def main() -> None:
    """Validate every table of the grid and write the pages."""
    datasets, models, methods = (params.names(section) for section in ("datasets", "models", "saliency"))
    files = [(name, storage.aggregate_file(name)) for name in storage.AGGREGATES]
    for dataset in datasets:
        files += [("boxes", storage.boxes_file(dataset)), ("splits", storage.splits_file(dataset))]
        files += [("plan", storage.plan_file(dataset))]
    files += [("predictions", storage.predictions_file(*cell)) for cell in product(datasets, models)]
    for cell in product(datasets, models, methods):
        files += [("index", storage.explanations_folder(*cell) / storage.INDEX), ("scores", storage.scores_file(*cell))]
    print(build_docs(files, storage.DATA_DOCS))


if __name__ == "__main__":
    run(main)
