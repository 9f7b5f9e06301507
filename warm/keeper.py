"""The keeper of one stage: a small process between client and child, which needs nobody else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import traceback
from collections.abc import Iterator
from typing import NoReturn

from warm.child import become
from warm.wire import READY, STATUS, receive_go, receive_request

PATIENCE = 10
"""Seconds for a client to send its request, and to say that it waits."""
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG

prctl = ctypes.CDLL(None).prctl


def keep(connection: socket.socket) -> NoReturn:
    """Run what the client asks for in a child, and end this process when it has ended."""
    try:
        os.setsid()
        woken = wake_on_child()
        connection.settimeout(PATIENCE)
        request = receive_request(connection)
        connection.sendall(READY)
        streams = receive_go(connection)
        connection.settimeout(None)
        keeper = os.getpid()
        child = os.fork()
        if child == 0:
            os.setsid()
            prctl(DIE_WITH_PARENT, signal.SIGKILL)
            if os.getppid() != keeper:
                os._exit(1)
            for descriptor in (woken, signal.set_wakeup_fd(-1), connection.detach()):
                os.close(descriptor)
            with never_returns():
                become(request, streams)
        for stream in streams:
            os.close(stream)
        connection.sendall(STATUS.pack(_watched(connection, woken, child)))
    except (OSError, EOFError, ValueError, KeyError):
        pass  # the client is gone, or no client
    finally:
        os._exit(0)


@contextlib.contextmanager
def never_returns() -> Iterator[None]:
    """End the child here if it fails before its stage begins, so that it does not go on as a second keeper."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def wake_on_child() -> int:
    """Return a descriptor that can be read when a child of this process has ended."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write)
    return read


def _watched(connection: socket.socket, woken: int, child: int) -> int:
    """Return the wait status of a child; until then send it and its children the signals that the client sends."""
    while True:
        ready = select.select([connection.fileno(), woken], [], [])[0]
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 64)
        if connection.fileno() in ready:
            numbers = _received(connection)
            for number in numbers or [signal.SIGKILL]:
                _send(child, number)
            if not numbers:
                os.waitpid(child, 0)
                raise EOFError
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            if ended.si_code != os.CLD_EXITED:
                _send(child, signal.SIGKILL)  # its children, before its number is free for others
            return os.waitpid(child, 0)[1]


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(64)
    except OSError:
        return b""


def _send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
