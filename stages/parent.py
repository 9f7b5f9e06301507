"""A stage does not outlive the DVC that started it: it would write beside the next run."""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_dvc() -> None:
    """Let this process be sent SIGTERM when its parent ends, if that is DVC; Linux only.

    Otherwise a DVC that is killed leaves its stage behind, which nobody waits for.
    """
    if sys.platform != "linux" or "DVC_STAGE" not in os.environ or sys.argv[:1] != ["-m"]:
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
