"""What every stage's command line shares."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.core.errors import UserError
from pipeline.core.files import DATA, METRICS, remove_leftovers
from warm.arguments import parser


def run(stage: Callable[..., None], *names: str) -> None:
    """Parse ``--name value`` for each name and call the stage with them.

    See `guarded` for how errors end the process.

    Args:
        stage: called with the values as keywords.
        names: of its arguments.

    Raises an auditing event ``cose.stage``: here a stage has started, and its own work begins.
    """
    sys.audit("cose.stage")
    arguments = vars(parser(Path(sys.argv[0]).stem, stage.__doc__, names).parse_args())
    remove_leftovers(DATA, METRICS)
    guarded(partial(stage, **arguments))


class _Ended(BaseException):
    """SIGTERM came; what is half-written is removed on the way out."""


def guarded(work: Callable[[], None]) -> None:
    """Do some work, and end the process with one line on stderr where the user or the machine stops it.

    A `UserError`, an error of the operating system (no permission, no such folder) and memory that runs out end it
    with exit code 1; set ``COSE_TRACEBACK=1`` to see where they came from. Ctrl-C and SIGTERM end it by that signal,
    once half-written files are removed. Any other exception is a defect and shows its traceback.
    """
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, _end)
    try:
        work()
        sys.stdout.flush()
    except KeyboardInterrupt:
        _die(signal.SIGINT, "interrupted")
    except _Ended:
        _die(signal.SIGTERM, "ended by SIGTERM")
    except BrokenPipeError:  # as of `... | head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UserError, OSError, MemoryError) as error:
        if os.environ.get("COSE_TRACEBACK"):
            raise
        sys.exit(f"error: {_said(error)}")
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # cleaning up is not interrupted by a second one
    raise _Ended


def _said(error: BaseException) -> str:
    """Return the one line for an error."""
    if isinstance(error, UserError):
        return " ".join(str(error).splitlines())
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or ' '.join(str(error).split()) or type(error).__name__}"
    reason = " ".join(str(error).split())
    return f"memory ran out{f' ({reason})' if reason else ''}"


def _die(number: int, why: str) -> NoReturn:
    """End the process by a signal, as it would have ended without being caught."""
    print(f"error: {why}; nothing is left half-written", file=sys.stderr, flush=True)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(128 + number)
