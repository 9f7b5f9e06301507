"""Build Great Expectations' pages on every table. Not a stage of the graph: its pages carry the time."""

from itertools import product
from pathlib import Path

from pipeline.core import grid, params
from pipeline.core.tables import Table
from pipeline.data.prepared import BOXES, PLAN, SPLITS, prepared_file
from pipeline.metrics.faithfulness.tables import (
    FAITHFULNESS,
    LIMITS,
    faithfulness_file,
    faithfulness_folder,
    limits_file,
    limits_folder,
)
from pipeline.metrics.localisation.tables import (
    BOX_STUDY,
    FRAME_BOXES,
    LOCALISATION,
    OBJECTS,
    localisation_folder,
    objects_folder,
    table_file,
)
from pipeline.metrics.scores import SCORES, scores_file, scores_folder
from pipeline.models.cell import ROWS, cell_folder, rows_file
from pipeline.results.data_docs import build_docs
from pipeline.results.faithfulness_means import FAITHFULNESS_MEANS
from pipeline.results.localisation_means import BOX_STUDY_MEANS, LOCALISATION_MEANS
from pipeline.results.summary import COSE, TRANSFORM_MEANS, summary_file
from pipeline.saliency.explanations import INDEX, explanations_folder, index_file
from stages.command import run

FOLDER = Path("docs/data-docs")


def main() -> None:
    """Validate every table of the grid and write the pages."""
    cells = grid.cells()
    means = (COSE, TRANSFORM_MEANS, FAITHFULNESS_MEANS, LOCALISATION_MEANS, BOX_STUDY_MEANS)
    files: list[tuple[Table, Path]] = [(table, summary_file(table)) for table in means]
    files += [
        (table, prepared_file(dataset, table))
        for dataset in params.names("datasets")
        for table in (BOXES, SPLITS, PLAN)
    ]
    for cell in cells:
        files += [(ROWS, rows_file(cell_folder(cell))), (LIMITS, limits_file(limits_folder(cell)))]
        files += [(table, table_file(objects_folder(cell), table)) for table in (OBJECTS, FRAME_BOXES, BOX_STUDY)]
    for cell, method in product(cells, grid.methods()):
        if method not in cells[cell].without:
            files += [(INDEX, index_file(explanations_folder(cell, method)))]
            files += [(SCORES, scores_file(scores_folder(cell, method)))]
            placed = localisation_folder(cell, method)
            measured = [(FAITHFULNESS, faithfulness_file(faithfulness_folder(cell, method)))]
            measured += [(table, table_file(placed, table)) for table in (LOCALISATION, BOX_STUDY)]
            files += [(table, file) for table, file in measured if file.exists()]  # a profile may measure nothing
    print(build_docs(files, FOLDER))


if __name__ == "__main__":
    run(main)
