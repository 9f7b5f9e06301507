"""A gate: validate all tables of one kind of one dataset in one process, before anything reads them."""

from itertools import product

from pipeline import params, storage
from pipeline.expectations import Validator
from stages.command import run


def main(gate: str, dataset: str) -> None:
    """Run the suites of a dataset's tables; write one file per model or cell that passed."""
    validator = Validator()
    with storage.whole(storage.gate_folder(gate, dataset)) as draft:
        for names in product(*(params.names(section) for section in storage.GATES[gate])):
            report = validator.check_files(storage.gated_tables(gate, dataset, *names))
            storage.write_json(draft / f"{'-'.join(names) or 'tables'}.json", report)


if __name__ == "__main__":
    run(main, "gate", "dataset")
