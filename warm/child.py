"""The forked process: it becomes what `python -m stages.NAME` would have been, and runs the stage.

What differs from a process of its own: it is called `warm.server` in lists of processes, sets of strings have the same
order in all stages of one preloaded interpreter, warnings that packages give when they are imported are not shown, and
a file that the stage leaves open is not flushed at the end.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import runpy
import signal
import sys
import tempfile
import threading
import traceback
from types import TracebackType
from typing import Any, NoReturn

HERE = os.path.dirname(os.path.abspath(__file__))
UNWRITTEN = 120
"""Python's exit code when what was printed cannot be written."""
FIXED = (signal.SIGKILL, signal.SIGSTOP)

imported_variables: dict[str, str] = {}
"""Environment variables that packages set when they were imported."""


def prepare(request: dict[str, Any]) -> None:
    """Take over all of a request but the streams; what fails here has not begun."""
    os.chdir(request["directory"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(imported_variables | request["environment"])
    sys.path[:] = request["path"]
    sys.argv[:] = [request["module"], *request["arguments"]]
    sys.orig_argv[:] = request["original_arguments"]
    for number in signal.valid_signals():
        if number not in FIXED:
            handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if number in request["ignored"] else handler)
    for name in [name for name in sys.modules if name.partition(".")[0] == "warm"]:
        del sys.modules[name]
    # What has been listed of the project's folders; those of Python and its packages are the same.
    for path in [path for path in sys.path_importer_cache if not path.startswith((sys.prefix, sys.base_prefix))]:
        del sys.path_importer_cache[path]
    tempfile.tempdir = None
    if "numpy" in sys.modules:  # all children would draw the same numbers; random sees to itself
        sys.modules["numpy"].random.seed()
    gc.enable()


def become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Take the standard streams, run the stage of a request in this process, and end it."""
    _take_streams(request["streams"], descriptors)
    code, killed = 0, False
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = _exit_code(error.code)
    except BaseException as error:
        code, killed = 1, isinstance(error, KeyboardInterrupt)
        sys.excepthook(type(error), error.with_traceback(_of_stage(error.__traceback__)), error.__traceback__)
    # As Python ends: it waits for threads, then calls what has been registered.
    for last in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        try:
            last()
        except BaseException:
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            code = UNWRITTEN
    ctypes.CDLL(None).fflush(None)
    if killed:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def _take_streams(said: dict[str, list[Any]], descriptors: list[int]) -> None:
    """Replace this process's standard streams by the client's, made as Python makes them."""
    came = dict(zip(said, descriptors, strict=True))
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        os.close(number)
        stream: io.TextIOWrapper | None = None
        if str(number) in said:
            os.dup2(came[str(number)], number)
            os.close(came[str(number)])
            encoding, errors, by_line, unbuffered = said[str(number)]
            buffering = 0 if unbuffered and number else -1
            binary: Any = open(number, f"{mode}b", buffering=buffering, closefd=False)  # noqa: SIM115
            getattr(binary, "raw", binary).name = f"<{name}>"
            stream = io.TextIOWrapper(
                binary, encoding, errors, newline="\n", line_buffering=by_line, write_through=unbuffered
            )
            stream.mode = mode  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _exit_code(given: Any) -> int:
    if given is None or isinstance(given, int):
        return given or 0
    if sys.stderr is not None:
        print(given, file=sys.stderr)
    return 1


def _of_stage(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of this package."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(HERE):
        trace = trace.tb_next
    return trace
