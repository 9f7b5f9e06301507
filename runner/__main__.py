"""DVC's command line with two changes: `python -m runner repro` and all else that `dvc` takes.

Stages that do not depend on each other run at the same time (`runner.together`; COSE_JOBS says how many, and with one
they run in DVC's order), and finished ones go into dvc.lock together and not one by one (`runner.lock`), which matters
from a few hundred stages on. Stages, results and lock file are those of plain `dvc repro`, and the two may take turns
on one workspace.
"""

from __future__ import annotations

import sys

from dvc.cli import main

from runner.lock import collected
from runner.together import JobsError, jobs, together

if __name__ == "__main__":
    try:
        at_once = jobs()
    except JobsError as error:
        sys.exit(f"error: {error}")
    with together(at_once), collected():
        sys.exit(main(sys.argv[1:]))
