"""DVC's command line with two changes: `python -m runner repro` and all else that `dvc` takes.

Stages that do not depend on each other run at the same time (`runner.together`; COSE_JOBS says how many, and with one
they run in DVC's order), and finished ones go into dvc.lock together and not one by one (`runner.lock`), which matters
from a few hundred stages on. `repro` first repairs what a killed run left behind (`runner.recovery`) and checks the
values and sources that DVC makes stages of (`runner.graph_values`). Stages, results and lock file are those of plain
`dvc repro`, and the two may take turns on one workspace.
"""

from __future__ import annotations

import sys

from dvc.cli import main

from pipeline.core.errors import UserError
from runner.graph_values import PARAMS, check_graph_values, check_sources
from runner.lock import collected
from runner.recovery import mend, written_whole
from runner.together import jobs, together

if __name__ == "__main__":
    try:
        at_once = jobs()
        if sys.argv[1:2] == ["repro"]:
            mend()
            if PARAMS.exists():
                check_graph_values()
                if not sys.argv[2:]:  # with targets or --keep-going, a missing source may not matter
                    check_sources()
    except UserError as error:
        sys.exit(f"error: {error}")
    with together(at_once), collected(), written_whole():
        sys.exit(main(sys.argv[1:]))
