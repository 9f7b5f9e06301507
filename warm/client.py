"""The client's side: `python -m stages.NAME` until a preloaded interpreter has taken the stage over."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import socket

PATIENCE = 3
"""Seconds for a preloaded interpreter to take a stage; one that is stopped or swapped out takes longer."""
FORWARDED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")


def run_warm() -> None:
    """Have a preloaded interpreter run this stage and end as it does, or return at once where there is none.

    Call it while `python -m stages.NAME` imports the package ``stages``, before anything that takes long.
    """
    module = _stage()
    if module is None or not _wanted():
        return
    from warm import place

    connection = None
    with contextlib.suppress(Exception):  # whatever it is, the stage runs without
        folder, name = place.folder(), place.name()
        connection = _taken(os.path.join(folder, f"{name}.sock"), module)
        if connection is None:
            _start(os.path.join(folder, f"{name}.json"), name)
    if connection is not None:
        _follow(connection)


def _stage() -> str | None:
    """Return the module that Python is about to run, if it is one of the stages."""
    if sys.argv[:1] != ["-m"]:  # what Python puts there until it has found the module
        return None
    before = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return before[-1] if before[-1].startswith("stages.") else None


def _wanted() -> bool:
    """Say whether this process may be replaced: not with COSE_WARM=0, nor where Python was asked for something else."""
    return (
        sys.platform == "linux"
        and os.environ.get("COSE_WARM") != "0"
        and not (sys.flags.inspect or sys.flags.interactive or sys.flags.verbose or "importtime" in sys._xoptions)
        and not any(variable.startswith(("COVERAGE_", "COV_CORE_")) for variable in os.environ)
        and sys.gettrace() is None
        and sys.getprofile() is None
    )


def _taken(path: str, module: str) -> socket.socket | None:
    """Return the connection to a child that has taken this stage over; None if there is none."""
    if not os.path.exists(path):
        return None
    import socket

    from warm.wire import READY, send_go, send_request, user_of

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(path)
        if user_of(connection) == os.getuid():
            request, streams = _request(module)
            send_request(connection, request)
            if connection.recv(1) == READY:
                connection.settimeout(None)
                send_go(connection, streams)
                return connection
    except OSError:
        pass  # nobody listens there any more, or not in time
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def _start(file: str, name: str) -> None:
    """Start a preloaded interpreter, for stages to come."""
    from warm.state import failed_lately, is_held

    if is_held(file) or failed_lately(file):
        return
    import subprocess

    from warm.place import ROOT

    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # as multiprocessing does
    for option, value in sys._xoptions.items():
        flags += ["-X", option if value is True else f"{option}={value}"]
    between = os.fork()  # so that the stage has no child that it did not start
    if between == 0:
        try:
            subprocess.Popen(
                [sys.executable, *flags, "-m", "warm.server", name],
                cwd=ROOT,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os._exit(0)
    os.waitpid(between, 0)


def _request(module: str) -> tuple[dict[str, Any], list[int]]:
    """Return what a child needs to stand in for this process, and the descriptors of the open standard streams."""
    streams = {
        number: [stream.encoding, stream.errors, stream.line_buffering, getattr(stream, "write_through", False)]
        for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr))
        if stream is not None
    }
    umask = os.umask(0o077)
    os.umask(umask)
    request: dict[str, Any] = {
        "module": module,
        "arguments": sys.argv[1:],
        "original_arguments": sys.orig_argv,
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "umask": umask,
        "path": sys.path,
        "streams": streams,
        "ignored": [one for one in signal.valid_signals() if signal.getsignal(one) == signal.SIG_IGN],
        "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    }
    return request, list(streams)


def _follow(connection: socket.socket) -> NoReturn:
    """Pass signals on until the child has ended, and end as it did."""
    from warm.wire import STATUS, exactly

    def send(number: int) -> None:
        with contextlib.suppress(OSError):  # it is ending
            connection.send(bytes([number]))

    def stop(number: int, _: Any) -> None:
        send(signal.SIGSTOP)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # until somebody continues this process
        signal.signal(number, stop)
        send(signal.SIGCONT)

    for name in FORWARDED:
        if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
            signal.signal(getattr(signal, name), lambda number, _: send(number))
    if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, stop)
    try:
        status = STATUS.unpack(exactly(connection, STATUS.size))[0]
    except (OSError, EOFError):
        print("error: the stage and its keeper were killed", file=sys.stderr, flush=True)
        status = signal.SIGKILL
    if os.WIFSIGNALED(status):
        _die(os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _die(number: int) -> NoReturn:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # the child's is enough
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)
