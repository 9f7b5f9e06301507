"""Compare our numbers with those of the paper and of the Opti-CAM poster. Not a stage of the graph: it runs nothing."""

from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd

from pipeline.core import grid, params
from pipeline.core.files import METRICS, write_csv
from pipeline.core.tables import lines_of
from pipeline.data.plan_settings import PlanSettings
from pipeline.data.prepared import SPLITS, prepared_file
from pipeline.metrics.cose import StatisticsSettings
from pipeline.metrics.localisation.box_study import ALONE
from pipeline.metrics.scores import scores_folder
from pipeline.models.cell import cell_folder, rows_file
from pipeline.models.training_metrics import training_metrics_file
from pipeline.results import needs
from pipeline.results.comparison import Number, average_cose, compare, published
from pipeline.results.opti_cam import STUDIES, Study, compare_study
from pipeline.results.summary import COSE, summarize_grid
from pipeline.saliency.explanations import ABOUT, explanations_folder
from stages.command import run

SECTIONS = ("datasets", "models", "saliency")
FILE = METRICS / "comparison.csv"
OPTI_CAM = METRICS / "comparison_opti_cam.csv"


def main() -> None:
    """Print the tables, count what is missing and why, and write metrics/comparison.csv and comparison_opti_cam.csv."""
    cose = summarized()
    table = compare(cose, partial(why_missing, profile="paper"))
    write_csv(FILE, table)
    print("COSE in percent (SSIM, paper protocol): ours with its interval, the paper's, difference")
    for line in lines_of(table):
        name = f"{line.dataset} {line.model} {line.method}"
        if pd.isna(line.ours):
            print(f"{name:<52} {'-':>6} {'':>17} {line.published:6.2f}          {line.missing}")
        else:
            interval = "" if pd.isna(line.low) else f"[{line.low:.2f}, {line.high:.2f}]"
            print(f"{name:<52} {line.ours:6.2f} {interval:>17} {line.published:6.2f} {line.difference:+8.2f}")
    _count(table, "the paper's Table 1", FILE)
    _averages(cose)
    _accuracies()
    studies = {
        study: compare_study(study, _measured(study), partial(why_missing, profile="opti_cam")) for study in STUDIES
    }
    write_csv(OPTI_CAM, pd.concat([found.assign(table=study.title) for study, found in studies.items()]))
    for study, found in studies.items():
        _study(study, found)


def _count(table: pd.DataFrame, name: str, file: Path) -> None:
    reasons = table["missing"].value_counts()
    print(f"\n{len(table)} numbers in {name}, {len(table) - reasons.sum()} of them here (written to {file})")
    for reason, count in reasons.items():
        print(f"{count:>5} missing: {reason}")


def _averages(cose: pd.DataFrame) -> None:
    print("\nMean COSE in percent (Table A.1): ours over so many of the paper's 20 cells, the paper's, difference")
    for line in lines_of(average_cose(cose)):
        ours = f"{'-':>6}" if pd.isna(line.ours) else f"{line.ours:6.2f}"
        difference = "" if pd.isna(line.difference) else f"{line.difference:+8.2f}"
        print(f"{line.method + ' ' + line.similarity:<52} {ours} {line.cells:>3} {line.published:13.2f} {difference}")


def _measured(study: Study) -> pd.DataFrame:
    file = METRICS / f"{study.ours}.csv"
    return pd.read_csv(file) if file.exists() else pd.DataFrame()


def _study(study: Study, table: pd.DataFrame) -> None:
    if table["ours"].notna().any():
        print(f"\nOpti-CAM, {study.title}: ours with its interval, published, difference")
    for line in lines_of(table[table["ours"].notna()]):
        name = " ".join(getattr(line, key) for key in study.keys)
        interval = "" if pd.isna(line.low) else f"[{line.low:.2f}, {line.high:.2f}]"
        note = "" if pd.isna(line.note) else f"  {line.note}"
        print(f"{name:<52} {line.ours:6.2f} {interval:>17} {line.published:6.2f} {line.difference:+8.2f}{note}")
    _count(table, f"Opti-CAM's {study.title}", OPTI_CAM)


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
    return summarize_grid(grid.cells(), grid.methods(), plan, settings, seed=seed, scored=scored)[COSE.name]


def _accuracies() -> None:
    file = METRICS / "accuracy.csv"
    theirs = published("accuracy")
    ours = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["dataset", "model", "published"])
    both = ours[ours["published"].notna()]
    print(f"\nTest accuracy: {len(both)} of the paper's {len(theirs)} (metrics/accuracy.csv)")
    for line in lines_of(both):
        print(
            f"{line.dataset + ' ' + line.model:<52} {line.accuracy:6.2f} {line.published:13.2f} {line.difference:+8.2f}"
        )


def why_missing(number: Number, profile: str) -> str:
    """Return the first thing on the way to a published number that is not there; a profile has all of them."""
    dataset, model, method = number
    for section, name in zip(SECTIONS, number, strict=True):
        if name not in ALONE and name not in params.names(section):
            return f"{name} is not among the {section} of {params.PARAMS} (make params PROFILE={profile})"
    cells = {name: cell for name, cell in grid.cells().items() if (cell.dataset, cell.model) == (dataset, model)}
    if not cells:
        return f"no cell of {params.PARAMS} has this dataset and model"
    name, cell = next(iter(cells.items()))
    if method in ALONE:
        return "not studied yet (dvc repro), or no image has a box"
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
