"""Turn the scores of the whole grid into the benchmark's numbers."""

import sys

from pipeline.core import grid, params, tables
from pipeline.core.files import METRICS, write_csv, write_json
from pipeline.data.plan_settings import PlanSettings
from pipeline.metrics import cose
from pipeline.metrics.localisation.tables import read_chosen
from pipeline.models.training_metrics import read_training_metrics, training_metrics_file
from pipeline.results import means
from pipeline.results.comparison import accuracies
from pipeline.results.faithfulness_means import FAITHFULNESS_MEANS, summarize_faithfulness
from pipeline.results.headline import headline, paper_table
from pipeline.results.localisation_means import BOX_STUDY_MEANS, LOCALISATION_MEANS, summarize_localisation
from pipeline.results.summary import COSE, TRANSFORM_MEANS, absent, leftovers, mixed, summarize_grid, summary_file
from stages.command import run

FEW = ("average_drop", "average_gain", "insertion", "deletion", "road_combined")
"""Faithfulness metrics that people look at first."""
FEW_OF_PLACE = ("energy_pointing_game", "mass_accuracy", "pixel_average_precision", "standard_pointing_game")
"""Localisation metrics that people look at first."""


def main() -> None:
    """Write the tables of COSE and of accuracies, and the headline metrics.

    Run by itself it takes what is there, and says what is missing: a stage that failed costs no other its numbers.
    """
    seed = params.read("seed", params.Seed)
    plan = params.read("plan", PlanSettings)
    settings = params.read("statistics", cose.StatisticsSettings)
    cells, methods = grid.cells(), grid.methods()
    results = summarize_grid(cells, methods, plan, settings, seed=seed)
    tables.write_all([(table, summary_file(table), results[table.name]) for table in (COSE, TRANSFORM_MEANS)])
    for table in (COSE, TRANSFORM_MEANS):
        write_csv(METRICS / f"{table.name}.csv", results[table.name])
    faithfulness = summarize_faithfulness(cells, methods, plan, settings, seed=seed)
    localisation, study = summarize_localisation(
        cells, methods, read_chosen().metrics, plan, settings=settings, seed=seed
    )
    measured = ((FAITHFULNESS_MEANS, faithfulness), (LOCALISATION_MEANS, localisation), (BOX_STUDY_MEANS, study))
    tables.write_all([(table, summary_file(table), found) for table, found in measured])
    for table, found in measured:
        write_csv(METRICS / f"{table.name.removesuffix('_means')}.csv", found)
    write_json(METRICS / "faithfulness.json", means.headline(faithfulness[faithfulness["at"].isna()], FEW))
    write_json(METRICS / "localisation.json", means.headline(localisation, FEW_OF_PLACE))
    metrics = {
        (name, cell.dataset, cell.model): read_training_metrics(name)
        for name, cell in cells.items()
        if training_metrics_file(name).exists()
    }
    write_csv(METRICS / "accuracy.csv", accuracies(metrics, settings.confidence))
    write_csv(METRICS / "table1.csv", paper_table(results[COSE.name], methods))
    write_json(METRICS / "cose.json", headline(results[COSE.name]))
    for line in [*absent(cells, methods), *mixed(cells, methods), *leftovers(cells)]:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    run(main)
