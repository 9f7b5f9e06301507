"""The forked process: it becomes what `python -m stages.NAME` would have been, and runs the stage."""

from __future__ import annotations

import atexit
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
UNREAD = 120
"""Python's exit code when what was printed cannot be written."""


def become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Run the stage of a request in this process, and end it."""
    _take_streams(request["streams"], streams)
    os.chdir(request["directory"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:] = request["path"]
    sys.argv[:] = [request["module"], *request["arguments"]]
    sys.orig_argv[:] = request["original_arguments"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    _forget()
    gc.enable()
    _run(request["module"])


def _take_streams(said: dict[str, list[Any]], descriptors: list[int]) -> None:
    """Put the client's standard streams in the place of this process's, made as Python makes them."""
    came = dict(zip(said, descriptors, strict=True))
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        os.close(number)
        stream: io.TextIOWrapper | None = None
        if str(number) in said:
            os.dup2(came[str(number)], number)
            os.close(came[str(number)])
            encoding, errors, by_line, unbuffered = said[str(number)]
            binary: Any = open(number, f"{mode}b", buffering=0 if unbuffered and number else -1, closefd=False)  # noqa: SIM115
            getattr(binary, "raw", binary).name = f"<{name}>"
            stream = io.TextIOWrapper(
                binary, encoding, errors, newline=None if mode == "r" else "\n", line_buffering=by_line,
                write_through=unbuffered,
            )  # fmt: skip
            stream.mode = mode  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _forget() -> None:
    """Drop what the preloaded interpreter has and a fresh one has not."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "warm"]:
        del sys.modules[name]
    sys.path_importer_cache.clear()
    tempfile.tempdir = None
    if "numpy" in sys.modules:  # all children would draw the same numbers; random sees to itself
        sys.modules["numpy"].random.seed()


def _run(module: str) -> NoReturn:
    code, killed = 0, None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = _exit_code(error.code)
    except BaseException as error:
        code = 1
        sys.excepthook(type(error), error.with_traceback(_of_stage(error.__traceback__)), error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            killed = signal.SIGINT  # as Python ends
    try:
        threading._shutdown()  # type: ignore[attr-defined] # waits for threads, as Python does at the end
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = code or UNREAD
    if killed is not None:
        signal.signal(killed, signal.SIG_DFL)
        os.kill(os.getpid(), killed)
    os._exit(code & 0xFF)


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
