"""The protocol's two ends of a message; see the package for the whole of it."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

LENGTH = struct.Struct("!I")
STATUS = struct.Struct("!i")
BEGUN = b"+"
STREAMS = (0, 1, 2)


def send_request(connection: socket.socket, request: dict[str, Any], streams: list[int]) -> None:
    """Send a request and with it the descriptors of the standard streams that are open."""
    text = json.dumps(request).encode()
    socket.send_fds(connection, [LENGTH.pack(len(text))], streams)
    connection.sendall(text)


def receive_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return a request, and copies of the descriptors that came with it.

    Raises:
        EOFError: the connection ended before its end.
    """
    head, streams, _, _ = socket.recv_fds(connection, LENGTH.size, len(STREAMS))
    head += exactly(connection, LENGTH.size - len(head))
    request: dict[str, Any] = json.loads(exactly(connection, LENGTH.unpack(head)[0]))
    return request, streams


def exactly(connection: socket.socket, count: int) -> bytes:
    """Return so many bytes.

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
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", packed)
    return int(user)
