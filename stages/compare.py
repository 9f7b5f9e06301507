"""Lay our Table 1 and our accuracies beside the paper's, cell by cell. Not a stage of the graph: it runs nothing."""

from pathlib import Path

import pandas as pd

from pipeline import cose, needs, params, storage, tables
from pipeline.comparison import Cell, compare, published
from stages.command import run

SECTIONS = ("datasets", "models", "saliency")
FILE = storage.METRICS / "comparison.csv"


def main() -> None:
    """Print both tables, count what is missing and why, and write metrics/comparison.csv."""
    table = compare(summarized(), why_missing)
    storage.write_csv(FILE, table)
    print("COSE in percent (SSIM, paper protocol): ours with its interval, the paper's, difference")
    for line in table.itertuples():
        name = f"{line.dataset} {line.model} {line.method}"
        if pd.isna(line.ours):
            print(f"{name:<52} {'-':>6} {'':>17} {line.published:6.2f}          {line.missing}")
        else:
            interval = "" if pd.isna(line.low) else f"[{line.low:.2f}, {line.high:.2f}]"
            print(f"{name:<52} {line.ours:6.2f} {interval:>17} {line.published:6.2f} {line.difference:+8.2f}")
    reasons = table["missing"].value_counts()
    print(f"\n{len(table)} cells in the paper's Table 1, {len(table) - reasons.sum()} of them here (written to {FILE})")
    for reason, count in reasons.items():
        print(f"{count:>5} missing: {reason}")
    _accuracies()


def summarized() -> pd.DataFrame:
    """Return the table ``cose`` of those cells of the paper's that are scored, whether the whole grid is or not."""
    seed = params.read("seed", params.Seed)
    settings = params.read("statistics", params.StatisticsSettings)
    lines = []
    for cell in published("cose")[["dataset", "model", "method"]].itertuples(index=False):
        file = storage.scores_file(*cell)
        if file.exists() and all(name in params.names(section) for section, name in zip(SECTIONS, cell, strict=True)):
            summary = cose.summarize(tables.read("scores", file), settings, seed, cell.dataset)
            lines += [cell._asdict() | line for line in summary]
    return tables.from_lines("cose", lines)


def _accuracies() -> None:
    file = storage.METRICS / "accuracy.csv"
    theirs = published("accuracy")
    ours = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["dataset", "model", "published"])
    both = ours[ours["published"].notna()]
    print(f"\nTest accuracy: {len(both)} of the paper's {len(theirs)} (metrics/accuracy.csv)")
    for line in both.itertuples():
        print(
            f"{line.dataset + ' ' + line.model:<52} {line.accuracy:6.2f} {line.published:13.2f} {line.difference:+8.2f}"
        )


def why_missing(cell: Cell) -> str:
    """Return the first thing on the way to a cell's number that is not there."""
    dataset, model, method = cell
    for section, name in zip(SECTIONS, cell, strict=True):
        if name not in params.names(section):
            return f"{name} is not among the {section} of {storage.PARAMS} (make params PROFILE=paper)"
    steps: list[tuple[str, Path, list[str]]] = [
        ("prepared", storage.splits_file(dataset), needs.of_dataset(dataset)),
        ("trained", storage.training_metrics_file(dataset, model), needs.of_model(model)),
        ("predicted", storage.predictions_file(dataset, model), []),
        ("explained", storage.explanations_folder(dataset, model, method) / storage.INDEX, []),
        ("scored", storage.scores_file(dataset, model, method), []),
    ]
    for step, file, missing in steps:
        if not file.exists():
            return f"not {step} yet (dvc repro)" + (f"; not here: {missing[0]}" if missing else "")
    return "undefined: no prediction is kept right, or none changes, or a mean is negative"


if __name__ == "__main__":
    run(main)
