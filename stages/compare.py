"""Lay our Table 1 and our accuracies beside the paper's. Not a stage of the graph: it runs nothing."""

from itertools import product
from pathlib import Path

import pandas as pd

from pipeline.core import grid, params
from pipeline.core.files import METRICS, write_csv
from pipeline.data.plan_settings import PlanSettings
from pipeline.data.prepared import SPLITS, prepared_file
from pipeline.metrics.cose import StatisticsSettings
from pipeline.metrics.scores import scores_folder
from pipeline.models.cell import cell_folder, rows_file
from pipeline.models.training_metrics import training_metrics_file
from pipeline.results import needs
from pipeline.results.comparison import Number, compare, published
from pipeline.results.summary import COSE, summarize_grid
from pipeline.saliency.explanations import ABOUT, explanations_folder
from stages.command import run

SECTIONS = ("datasets", "models", "saliency")
FILE = METRICS / "comparison.csv"


def main() -> None:
    """Print both tables, count what is missing and why, and write metrics/comparison.csv."""
    table = compare(summarized(), why_missing)
    write_csv(FILE, table)
    print("COSE in percent (SSIM, paper protocol): ours with its interval, the paper's, difference")
    for line in table.itertuples():
        name = f"{line.dataset} {line.model} {line.method}"
        if pd.isna(line.ours):
            print(f"{name:<52} {'-':>6} {'':>17} {line.published:6.2f}          {line.missing}")
        else:
            interval = "" if pd.isna(line.low) else f"[{line.low:.2f}, {line.high:.2f}]"
            print(f"{name:<52} {line.ours:6.2f} {interval:>17} {line.published:6.2f} {line.difference:+8.2f}")
    reasons = table["missing"].value_counts()
    print(
        f"\n{len(table)} numbers in the paper's Table 1, {len(table) - reasons.sum()} of them here (written to {FILE})"
    )
    for reason, count in reasons.items():
        print(f"{count:>5} missing: {reason}")
    _accuracies()


def summarized() -> pd.DataFrame:
    """Return the table ``cose`` of what is scored of the grid, whether the whole grid is or not."""
    seed = params.read("seed", params.Seed)
    plan = params.read("plan", PlanSettings)
    settings = params.read("statistics", StatisticsSettings)
    scored = {
        (cell, method)
        for cell, method in product(grid.cells(), grid.methods())
        if (scores_folder(cell, method) / ABOUT).exists()
    }
    return summarize_grid(grid.cells(), grid.methods(), plan, settings, seed, scored)[COSE.name]


def _accuracies() -> None:
    file = METRICS / "accuracy.csv"
    theirs = published("accuracy")
    ours = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["dataset", "model", "published"])
    both = ours[ours["published"].notna()]
    print(f"\nTest accuracy: {len(both)} of the paper's {len(theirs)} (metrics/accuracy.csv)")
    for line in both.itertuples():
        print(
            f"{line.dataset + ' ' + line.model:<52} {line.accuracy:6.2f} {line.published:13.2f} {line.difference:+8.2f}"
        )


def why_missing(number: Number) -> str:
    """Return the first thing on the way to a number of the paper's that is not there."""
    dataset, model, method = number
    for section, name in zip(SECTIONS, number, strict=True):
        if name not in params.names(section):
            return f"{name} is not among the {section} of {params.PARAMS} (make params PROFILE=paper)"
    cells = {name: cell for name, cell in grid.cells().items() if (cell.dataset, cell.model) == (dataset, model)}
    if not cells:
        return f"no cell of {params.PARAMS} has this data set and model"
    name, cell = next(iter(cells.items()))
    if method in cell.without:
        return f"left out: {cell.without[method]}"
    steps: list[tuple[str, Path, list[str]]] = [
        ("prepared", prepared_file(dataset, SPLITS), needs.of_dataset(dataset)),
        ("trained", training_metrics_file(name), needs.of_model(model)),
        ("predicted", rows_file(cell_folder(name)), []),
        ("explained", explanations_folder(name, method) / ABOUT, []),
        ("scored", scores_folder(name, method) / ABOUT, []),
    ]
    for step, file, missing in steps:
        if not file.exists():
            return f"not {step} yet (dvc repro)" + (f"; not here: {missing[0]}" if missing else "")
    return "undefined: no prediction is kept right, or none changes, or a mean is negative"


if __name__ == "__main__":
    run(main)
