"""Turn the scores of the whole grid into the benchmark's numbers; what comes in and what goes out is validated."""

from itertools import product

from pipeline import cose, params, storage, tables
from pipeline.comparison import accuracies
from pipeline.expectations import Validator
from stages.command import run


def main() -> None:
    """Write the tables of COSE and of accuracies, and the headline metrics."""
    seed = params.read("seed", params.Seed)
    settings = params.read("statistics", params.StatisticsSettings)
    methods = params.names("saliency")
    validator = Validator()
    summaries, perturbations = [], []
    for dataset, model, method in product(params.names("datasets"), params.names("models"), methods):
        file = storage.scores_file(dataset, model, method)
        scores = tables.read("scores", file)
        validator.check("scores", scores, str(file))
        cell = {"dataset": dataset, "model": model, "method": method}
        summaries += [cell | line for line in cose.summarize(scores, settings, seed, dataset)]
        perturbations += [cell | line for line in cose.by_perturbation(scores)]
    results = {
        "cose": tables.from_lines("cose", summaries),
        "transforms": tables.from_lines("transforms", perturbations),
    }
    for name, table in results.items():
        validator.check(name, table, str(storage.aggregate_file(name)))
    for name, table in results.items():
        tables.write(name, storage.aggregate_file(name), table)
        storage.write_csv(storage.METRICS / f"{name}.csv", table)
    metrics = {
        cell: storage.read_json(storage.training_metrics_file(*cell))
        for cell in product(params.names("datasets"), params.names("models"))
    }
    storage.write_csv(storage.METRICS / "accuracy.csv", accuracies(metrics, settings.confidence))
    table1 = cose.paper_table(results["cose"], methods)
    storage.write_csv(storage.METRICS / "table1.csv", table1)
    storage.write_json(storage.METRICS / "cose.json", cose.headline(results["cose"]))


if __name__ == "__main__":
    run(main)
