"""Measure what faithfulness metrics compare with on every image of a cell, whatever the method."""

from pipeline.core import tables
from pipeline.core.files import atomic_write
from pipeline.metrics.faithfulness.measure import measure_limits
from pipeline.metrics.faithfulness.tables import LIMITS, limits_file, limits_folder, read_entry
from pipeline.models.cell import cell_folder, read_cell
from pipeline.models.load import load_states
from pipeline.models.trained import model_folder
from stages.command import run


def main(cell: str) -> None:
    """Write the limits of every image of a cell; a table without rows where no metric has limits."""
    entry = read_entry()
    known = read_cell(cell_folder(cell))
    states = load_states(known.network, model_folder(cell))
    with atomic_write(limits_folder(cell)) as draft:
        draft.mkdir()
        limits = measure_limits(entry.metrics, states, known.rows, known.pictures, seed=entry.seed)
        tables.write(LIMITS, limits_file(draft), limits)


if __name__ == "__main__":
    run(main, "cell")
