"""Update the README's table and picture to the last run. Not a stage of the graph: it writes what is committed."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.core import grid, params
from pipeline.core.errors import unknown_name
from pipeline.core.files import METRICS, atomic_write, missing
from pipeline.results.cell_maps import read_cell_maps, read_method_maps
from pipeline.results.palette_png import encoded
from pipeline.results.readme import FREE, free_images, photographs, table, with_table
from pipeline.results.sheet import drawn
from pipeline.saliency.method import METHODS
from stages.command import guarded

README, PICTURE = Path("README.md"), Path("docs/photographs.png")
NUMBERS = METRICS / "cose.csv"
LARGEST = 900_000
"""Bytes of the picture."""


def main(name: str | None) -> None:
    """Write the table of a cell into README.md, and its maps of free photographs, where it has some."""
    cells = grid.cells()
    cell = next(iter(cells)) if name is None else name
    if cell not in cells:
        raise unknown_name(params.at("cells"), "cell", cell, cells)
    if not NUMBERS.exists():
        raise missing(NUMBERS)
    controls = {method for method in grid.methods() if METHODS.find(method, "saliency").control}
    new = table(pd.read_csv(NUMBERS), cell, controls)
    text = with_table(README.read_text(), new, str(README))
    shown = read_cell_maps(cell, cells[cell].dataset, masks=0)
    if free_images(shown):
        methods = [read_method_maps(method, shown) for method in grid.methods()]
        with atomic_write(PICTURE) as draft:
            draft.write_bytes(encoded(drawn(photographs(shown, methods)), LARGEST))
    else:
        print(f"{PICTURE}: left as it was, since {cell} shows none of {', '.join(FREE)}")
    with atomic_write(README) as draft:
        draft.write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", help="name of the cell that is shown; the first one of params.yaml if left out")
    guarded(partial(main, parser.parse_args().cell))
