"""A listener of Waitress that has predictions refused early while every place is taken."""

from __future__ import annotations

from typing import Any

from waitress.server import TcpWSGIServer

from cspine.serve.app_state import Service
from cspine.serve.waitress_server.connection import DeadlineChannel
from cspine.serve.waitress_server.early_refusal import ServerFullError, bounded_route
from cspine.serve.waitress_server.eviction import Sockets


class Listener(TcpWSGIServer):
    """A listener whose connections are bound by the limits of its sockets.

    Args:
        app: the WSGI application.
        sockets: all sockets of the loop.
        service: says whether every place is taken, and counts refusals.
        waitress: `dispatcher`, `adj` and `sockinfo` of Waitress's own.
    """

    channel_class = DeadlineChannel

    def __init__(self, app: Any, sockets: Sockets, *, service: Service, **waitress: Any) -> None:
        # Before Waitress's own start, which may already take a connection.
        self.sockets, self.service = sockets, service
        super().__init__(app, sockets, **waitress)

    def add_task(self, task: DeadlineChannel) -> None:
        """Hand a whole request to a thread; where every place is taken, to be refused."""
        task.begin("work")
        request = task.requests[0]
        if not request.error and self.service.inference.admission.is_full:
            request.error = ServerFullError() if bounded_route(request) else None
        super().add_task(task)

    def handle_error(self) -> None:
        """Go on listening, whatever went wrong: Waitress would close the listener for good."""
        self.logger.exception("a connection could not be taken")
