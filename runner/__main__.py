"""DVC's command line with one change: `python -m runner repro` and all else that `dvc` takes.

Finished stages go into dvc.lock together and not one by one (`runner.lock`), which matters from a few hundred stages
on. Stages, results and lock file are those of plain `dvc repro`, and the two may take turns on one workspace.
"""

from __future__ import annotations

import sys

from dvc.cli import main

from runner.lock import collected

if __name__ == "__main__":
    with collected():
        sys.exit(main(sys.argv[1:]))
