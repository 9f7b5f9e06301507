"""A gate: validate all tables of one kind of one dataset in one process, before anything reads them."""

from itertools import product

from tqdm import tqdm

from pipeline import params, storage
from pipeline.expectations import Validator
from stages.command import run


def main(gate: str, dataset: str) -> None:
    """Run the suite of every table of a dataset; write one file per model or cell that passed."""
    validator = Validator()
    cells = list(product(*(params.names(section) for section in storage.GATES[gate])))
    with storage.whole(storage.gate_folder(gate, dataset)) as draft:
        for names in tqdm(cells, desc="validate", unit="table", disable=None):
            table, file = storage.gated_table(gate, dataset, *names)
            storage.write_json(draft / f"{'-'.join(names)}.json", validator.check_file(table, file))


if __name__ == "__main__":
    run(main, "gate", "dataset")
