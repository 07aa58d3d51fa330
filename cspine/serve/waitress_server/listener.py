"""A Waitress listener that refuses requests for predictions while the service is full.

The service is full while every slot of its `Admission` is taken: each request for predictions that
is in progress holds one. A refused request does not reach the application.
"""

from __future__ import annotations

import errno
import time
from typing import Any

from waitress.server import TcpWSGIServer

from cspine.serve.app_state import Service
from cspine.serve.waitress_server.connection import DeadlineChannel
from cspine.serve.waitress_server.early_refusal import ServerFullError, bounded_route
from cspine.serve.waitress_server.eviction import Sockets

# The error codes if the system has no file descriptor or memory left for a connection.
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
PAUSE_S = 1.0


class Listener(TcpWSGIServer):
    """A listener whose connections obey the limits of `sockets`.

    Args:
        app: the WSGI application.
        sockets: all sockets that Waitress's event loop serves.
        service: knows whether it is full, and counts refusals; None for the listener of
            the metrics.
        waitress: the arguments `dispatcher`, `adj` and `sockinfo` of `TcpWSGIServer`.
    """

    channel_class = DeadlineChannel
    _next_accept_s = 0.0

    def __init__(
        self, app: Any, sockets: Sockets, *, service: Service | None, **waitress: Any
    ) -> None:
        # These are set first, because Waitress's constructor may already accept a connection.
        self.sockets, self.service = sockets, service
        super().__init__(app, sockets, **waitress)

    def add_task(self, task: DeadlineChannel) -> None:
        """Hand a complete request to a thread; mark it as refused if the service is full."""
        task.begin("work")
        request = task.requests[0]
        if self.service and not request.error and self.service.inference.admission.is_full:
            request.error = ServerFullError() if bounded_route(request) else None
        super().add_task(task)

    def readable(self) -> bool:
        """Return whether connections are accepted now, which is not so during a pause."""
        return time.monotonic() >= self._next_accept_s and bool(super().readable())

    def accept(self) -> tuple[Any, Any] | None:
        """Accept a connection, or pause if the system has no resources for it."""
        try:
            accepted: tuple[Any, Any] | None = super().accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            # The client still waits, so without a pause the loop would try again at once.
            self._pause("no connection can be accepted: %s", error.strerror)
            return None
        return accepted

    def handle_error(self) -> None:
        """Keep the listener open after an unexpected error; Waitress would close it."""
        self._pause("a connection could not be accepted", exc_info=True)

    def _pause(self, text: str, *arguments: Any, **options: Any) -> None:
        """Log a warning, and accept no connection for PAUSE_S, because the error may repeat."""
        self._next_accept_s = time.monotonic() + PAUSE_S
        self.logger.warning(text, *arguments, **options)
