"""Both ends of the protocol's messages; see the package for the whole of it."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

LENGTH = struct.Struct("!I")
STATUS = struct.Struct("!i")
PEER = struct.Struct("iII")
"""Linux' struct ucred: process, user, group."""
READY, GO = b"?", b"!"
STREAMS = (0, 1, 2)


def send_request(connection: socket.socket, request: dict[str, Any]) -> None:
    """Send a request."""
    text = json.dumps(request).encode()
    connection.sendall(LENGTH.pack(len(text)) + text)


def receive_request(connection: socket.socket) -> dict[str, Any]:
    """Return a request.

    Raises:
        EOFError: the connection ended before its end.
    """
    (length,) = LENGTH.unpack(exactly(connection, LENGTH.size))
    request: dict[str, Any] = json.loads(exactly(connection, length))
    return request


def send_go(connection: socket.socket, streams: list[int]) -> None:
    """Say that the stage may begin, and hand over the descriptors of the standard streams that are open."""
    socket.send_fds(connection, [GO], streams)


def receive_go(connection: socket.socket) -> list[int]:
    """Return copies of the descriptors that the client hands over when it says that the stage may begin.

    Raises:
        EOFError: it said nothing.
    """
    said, streams, _, _ = socket.recv_fds(connection, len(GO), len(STREAMS))
    if said != GO:
        raise EOFError
    return streams


def exactly(connection: socket.socket, count: int) -> bytes:
    """Return exactly ``count`` bytes.

    Raises:
        EOFError: the connection ended before.
    """
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def user_of(connection: socket.socket) -> int:
    """Return the user of the process at the other end, as the kernel knows it."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    _, user, _ = PEER.unpack(packed)
    return int(user)
