"""What happens before a stage imports anything."""

import importlib.util
import os
import signal
import sys

from warm.arguments import answer_help

PR_SET_PDEATHSIG = 1


def before_imports() -> None:
    """Answer ``--help``, refuse to run without the environment, and end with the DVC that started this stage."""
    if sys.argv[:1] != ["-m"]:  # what Python puts there until it has found the module
        return
    module, given = sys.orig_argv[: -len(sys.argv) + 1 or None][-1], sys.argv[1:]
    if not module.startswith("stages."):
        return
    answer_help(module, given)
    if importlib.util.find_spec("torch") is None:
        sys.exit(
            f"error: {sys.executable} has no torch, so the environment is not active; allowed: `make repro`, or "
            "`source .venv/bin/activate` before `dvc repro`"
        )
    end_with_dvc()


def end_with_dvc() -> None:
    """Let this process be sent SIGTERM when its parent ends, if that is DVC; Linux only.

    Otherwise a DVC that is killed leaves its stage behind, which would write beside the next run.
    """
    if sys.platform != "linux" or "DVC_STAGE" not in os.environ:
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
