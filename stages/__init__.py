"""The stages: each parses its names, loads its section of params.yaml, calls the library, writes what it declared.

Run them as `python -m stages.NAME` from the root of the repository; DVC does.
"""

from warm.before import before_imports

before_imports()

from pipeline.core.device import prepare_threads  # noqa: E402
from warm.client import run_warm  # noqa: E402

# Before any stage imports torch: its threads read this once, when they start.
prepare_threads()
# Where a preloaded interpreter runs the stage, this process does nothing else.
run_warm()
