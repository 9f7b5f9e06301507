"""The last gate: validate the aggregated tables."""

from pipeline import storage
from pipeline.expectations import Validator
from stages.command import run


def main() -> None:
    """Run the suites of what `aggregate` wrote."""
    report = Validator().check_files([(name, storage.aggregate_file(name)) for name in storage.AGGREGATES])
    storage.write_json(storage.AGGREGATES_GATE, report)


if __name__ == "__main__":
    run(main)
