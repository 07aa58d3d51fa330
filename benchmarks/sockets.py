"""Raw-socket functions of the load client, and two servers that use very little CPU.

One server serves pictures; the other sends the same answer to every request.
"""

from __future__ import annotations

import socket
import threading

TIMEOUT_S = 120
_CANNED = b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b" " * 200


def connect(port: int) -> socket.socket:
    """Return a connection to a port of this machine."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    # Nagle's algorithm would hold back a request's last bytes until the bytes before them are
    # acknowledged.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Return status and body of one answer, which must have a Content-Length header."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _receive(connection)
    # Header names are case-insensitive (RFC 9110, 5.1).
    head, body = data[:end].lower(), data[end + 4 :]
    length = int(head.partition(b"content-length:")[2].split(b"\r", 1)[0])
    while len(body) < length:
        body += _receive(connection)
    return int(head[9:12]), body


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionResetError("closed in the middle of an answer")
    return data


def listen() -> socket.socket:
    """Return a listener on a free port of this machine."""
    return socket.create_server(("127.0.0.1", 0), backlog=512)


def serve_pictures(pictures: list[bytes], listener: socket.socket) -> None:
    """Answer `/<n>.png?<number>` with picture n followed by the number; one request per connection.

    Never returns.
    """
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                path = connection.recv(65536).split(b" ", 2)[1]
                name, _, number = path[1:].partition(b".png?")
                body = pictures[int(name)] + number
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                connection.sendall(head % len(body) + body)
            except (OSError, ValueError, IndexError):
                continue  # the client disconnected, or its request is not for a picture


def answer_all(listener: socket.socket) -> None:
    """Answer every request of every connection with the same 200 bytes. Never returns."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer_connection, args=(connection,), daemon=True).start()


def _answer_connection(connection: socket.socket) -> None:
    with connection:
        try:
            while True:
                data = bytearray(_receive(connection))
                while b"\r\n\r\n" not in data:
                    data += _receive(connection)
                head, _, body = bytes(data).partition(b"\r\n\r\n")
                left = int(head.lower().partition(b"content-length:")[2].split(b"\r", 1)[0])
                left -= len(body)
                while left > 0:
                    left -= len(_receive(connection))
                connection.sendall(_CANNED)
        except OSError:
            return  # the client has gone
