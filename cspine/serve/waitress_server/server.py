"""Serve an application with Waitress, and stop without dropping what was accepted.

Once `Runner.stop` is called, the service first says so (`/health/ready` is 503 and new predictions
are refused), then ends when nothing is in work, at the latest after STOP_LIMIT_S.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from cspine.core.errors import ConfigError
from cspine.serve.app_state import EXTENSION, Service
from cspine.serve.schemas.requests import max_body_bytes
from cspine.serve.telemetry import make_metrics_app
from cspine.serve.waitress_server.eviction import Deadlines, Sockets
from cspine.serve.waitress_server.listener import Listener
from cspine.serve.waitress_server.process_limits import bound_memory, raise_file_limit

logger = logging.getLogger(__name__)

# How long a stopping service still says that it is stopping.
STOP_NOTICE_S = 1.0
STOP_LIMIT_S = 30.0
# A prediction has a deadline of its own. What takes this much longer will not end: it hangs.
WORK_MARGIN_S = 30.0
# For health, metrics, the page and refusals, while every place is taken.
SPARE_THREADS = 8
# Sockets of the loop; with fewer than the places of predictions no request would ever be refused.
MAX_SOCKETS = 512
# Sockets that connections without a request must leave free.
RESERVE = 32
MAX_HEADER_BYTES = 32 * 1024
# Waitress copies what is left of a read for each request in it, while all other connections wait;
# its 8 KiB would mean thousands of turns of the loop for one large image.
_RECEIVE_BYTES = 64 * 1024
_WAKE_S = 1
_NEVER_S = 10**9
_ANSWER_BYTES = 1024**3  # more than any answer has


class Runner:
    """One service on its listeners. Build it, call `run`, and `stop` from anywhere.

    Args:
        app: from `create_app`.
        deadlines: of all connections; `work_s` follows the settings.
        stop_notice_s: how long a stopping service still says that it is stopping.

    Raises:
        ConfigError: an address cannot be listened on.
    """

    def __init__(
        self,
        app: Flask,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 (frozen)
        stop_notice_s: float = STOP_NOTICE_S,
    ) -> None:
        self._service: Service = app.extensions[EXTENSION]
        settings = self._service.settings
        bound_memory()
        # A thread for each place: with fewer, requests would wait in Waitress, unmeasured.
        threads = settings.max_queue + SPARE_THREADS
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.set_thread_count(threads)
        # As many files again for all else, or a flood of connections would leave none.
        places = min(max(MAX_SOCKETS - RESERVE, threads + RESERVE), raise_file_limit() // 2)
        deadlines = replace(deadlines, work_s=settings.deadline_s + WORK_MARGIN_S)
        # One for all listeners, so that one loop serves them.
        self.sockets = Sockets(deadlines, places)
        # Those of the main address first, then those of the metrics.
        self.listeners = self._listen(app, settings.listen, self._service)
        if settings.metrics_listen is not None:
            metrics_app = make_metrics_app(self._service.metrics)
            self.listeners += self._listen(metrics_app, settings.metrics_listen, None)
        self._stop_notice_s = stop_notice_s
        self._stopping_since_s: float | None = None
        self._ending = threading.Event()

    @property
    def port(self) -> int:
        """Return the port of the first listener."""
        return int(self.listeners[0].effective_port)

    def _listen(
        self, app: Callable[..., Any], address: tuple[str, int], service: Service | None
    ) -> list[Listener]:
        """Return a bound listener for each address that the host's name stands for.

        Raises:
            ConfigError: there is no such address here, or another has its port.
        """
        host, port = address
        body_bytes = max_body_bytes(self._service.settings)
        try:
            adjustments = Adjustments(
                listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                connection_limit=self.sockets.places + RESERVE,
                max_request_header_size=MAX_HEADER_BYTES,
                max_request_body_size=body_bytes,
                # Bodies and answers, which may hold the picture, stay in memory, not in a file.
                inbuf_overflow=body_bytes,
                outbuf_overflow=_ANSWER_BYTES,
                recv_bytes=_RECEIVE_BYTES,
                # Keeps reading, so that a vanished client is noticed.
                channel_request_lookahead=1,
                # Waitress would measure idle connections by a clock that may be set.
                channel_timeout=_NEVER_S,
                # `select` fails from file descriptor 1024 on.
                asyncore_use_poll=True,
                # No `Server` header: it would say what to attack.
                ident=None,
            )
            return [
                Listener(
                    app,
                    self.sockets,
                    service=service,
                    dispatcher=self._dispatcher,
                    adj=adjustments,
                    sockinfo=sockinfo,
                )
                for sockinfo in adjustments.listen
            ]
        except (OSError, ValueError) as error:  # ValueError: the host is no name
            raise ConfigError(
                "`CSPINE_LISTEN` and `CSPINE_METRICS_LISTEN` must be addresses of this machine on "
                f"ports that no other program has. Received: {host}:{port} ({error})"
            ) from error

    def run(self) -> None:
        """Serve until `stop` has been called and what was accepted is done."""
        watcher = self._service.models.watch(self._ending)
        while not self._is_done():
            # A turn at a time, so that limits and the end are looked at in between.
            wasyncore.loop(timeout=_WAKE_S, use_poll=True, map=self.sockets, count=1)
            self.sockets.enforce_limits()
        for listener in self.listeners:
            listener.close()
        self._dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self.sockets)
        # A model that compiles while the interpreter ends would crash the process.
        watcher.join(STOP_LIMIT_S)
        logger.info("stopped")

    def stop(self) -> None:
        """Refuse new work and let `run` return once the old is done; safe in a signal handler."""
        if self._stopping_since_s is None:
            self._service.is_stopping = True
            self._service.inference.admission.close()
            self._stopping_since_s = time.monotonic()
            self._ending.set()
            # Wakes the loop; it may have woken by itself, seen the end and closed the trigger.
            with suppress(OSError):
                self.listeners[0].pull_trigger()

    def _is_done(self) -> bool:
        if self._stopping_since_s is None:
            return False
        stopping_s = time.monotonic() - self._stopping_since_s
        busy = self._service.inference.admission.taken or self.sockets.is_busy
        return stopping_s > STOP_LIMIT_S or (stopping_s > self._stop_notice_s and not busy)
