"""Build Great Expectations' pages on every table. Not a stage of the graph: its pages carry the time."""

from itertools import product
from pathlib import Path

from pipeline.core import grid, params
from pipeline.core.tables import Table
from pipeline.data.prepared import BOXES, PLAN, SPLITS, prepared_file
from pipeline.metrics.scores import SCORES, scores_file, scores_folder
from pipeline.models.cell import ROWS, cell_folder, rows_file
from pipeline.results.data_docs import build_docs
from pipeline.results.summary import COSE, TRANSFORM_MEANS, summary_file
from pipeline.saliency.explanations import INDEX, explanations_folder, index_file
from stages.command import run

FOLDER = Path("docs/data-docs")


def main() -> None:
    """Validate every table of the grid and write the pages."""
    cells = grid.cells()
    files: list[tuple[Table, Path]] = [(table, summary_file(table)) for table in (COSE, TRANSFORM_MEANS)]
    files += [
        (table, prepared_file(dataset, table))
        for dataset in params.names("datasets")
        for table in (BOXES, SPLITS, PLAN)
    ]
    files += [(ROWS, rows_file(cell_folder(cell))) for cell in cells]
    for cell, method in product(cells, grid.methods()):
        if method not in cells[cell].without:
            files += [(INDEX, index_file(explanations_folder(cell, method)))]
            files += [(SCORES, scores_file(scores_folder(cell, method)))]
    print(build_docs(files, FOLDER))


if __name__ == "__main__":
    run(main)
