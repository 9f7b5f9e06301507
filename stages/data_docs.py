"""Build Great Expectations' pages on every table. Not a stage of the graph: its pages carry the time."""

from itertools import product

from pipeline import params, storage
from pipeline.expectations import build_docs
from stages.command import run


def main() -> None:
    """Validate every table of the grid and write the pages."""
    files = [(name, storage.aggregate_file(name)) for name in storage.AGGREGATES]
    for gate, sections in storage.GATES.items():
        for dataset, *names in product(params.names("datasets"), *(params.names(section) for section in sections)):
            files += storage.gated_tables(gate, dataset, *names)
    print(build_docs(files, storage.DATA_DOCS))


if __name__ == "__main__":
    run(main)
