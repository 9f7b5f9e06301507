"""What every stage's command line shares."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial

from pipeline.core.errors import UserError
from pipeline.core.files import DATA, METRICS, remove_leftovers


def run(stage: Callable[..., None], *names: str) -> None:
    """Parse ``--name value`` for each name and call the stage with them.

    A `UserError` ends the process with its one line and exit code 1; set ``COSE_TRACEBACK=1`` to see where it came
    from. Any other exception is a defect and shows its traceback.

    Args:
        stage: called with the values as keywords.
        names: of its arguments.

    Raises an auditing event ``cose.stage``: here a stage has started, and its own work begins.
    """
    sys.audit("cose.stage")
    parser = argparse.ArgumentParser(description=stage.__doc__)
    for name in names:
        parser.add_argument(f"--{name}", required=True, help=f"name of the {name}, as in params.yaml")
    arguments = vars(parser.parse_args())
    remove_leftovers(DATA, METRICS)
    guarded(partial(stage, **arguments))


def guarded(work: Callable[[], None]) -> None:
    """Do some work; a `UserError` ends the process as `run` says."""
    try:
        work()
    except UserError as error:
        if os.environ.get("COSE_TRACEBACK"):
            raise
        sys.exit(f"error: {error}")
