"""The keeper of one stage: a small process between client and child, which needs nobody else.

It is the child's parent. Should it be killed, the kernel kills the child too; children of the child are not reached.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import traceback
from typing import NoReturn

from warm.child import become, prepare
from warm.wire import READY, STATUS, receive_go, receive_request

PATIENCE = 10
"""Seconds for a client to send its request, and to give the go."""
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG

prctl = ctypes.CDLL(None).prctl


def keep(connection: socket.socket) -> NoReturn:
    """Run what the client asks for in a child, and end this process when it has ended."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.setsid()
        woken = wake_on_child()
        connection.settimeout(PATIENCE)
        request = receive_request(connection)
        begun, begins = os.pipe2(os.O_CLOEXEC)
        keeper = os.getpid()
        # What comes before the stage runs waits for it, instead of ending half a child.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        child = os.fork()
        if child == 0:
            _become(connection, request, keeper, begins, others=(woken, begun))
        with contextlib.suppress(OSError):
            os.setpgid(child, child)  # so that there is a group to signal, whoever runs first
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.close(begins)
        if os.read(begun, 1):  # nothing if the child has failed, or waits in vain: the client then does without
            connection.settimeout(None)
            connection.sendall(STATUS.pack(_watched(connection, woken, child)))
    finally:
        os._exit(0)


def _become(
    connection: socket.socket, request: dict[str, object], keeper: int, begins: int, *, others: tuple[int, ...]
) -> NoReturn:
    """Make this process ready for the stage, say so, wait for the go, and run it."""
    try:
        os.setpgid(0, 0)
        prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)
        for descriptor in (*others, signal.set_wakeup_fd(-1)):
            os.close(descriptor)
        prepare(request)
        connection.sendall(READY)
        streams = receive_go(connection)
        os.close(connection.detach())
        os.write(begins, b"!")
        os.close(begins)
        become(request, streams)
    except (EOFError, OSError):
        pass  # nobody waits for it any more
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
    with contextlib.suppress(OSError):
        os.killpg(group, number)
