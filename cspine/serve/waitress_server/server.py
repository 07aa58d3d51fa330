"""Serve an application with Waitress, and stop without dropping what was accepted.

Told to stop, the service first says so (`/health/ready` is 503 and new predictions are refused),
then ends once nothing is in work, at the latest after STOP_LIMIT_S. Knows no signal: the entry
point calls `Runner.stop` from its handler.
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

from cspine.core.errors import ConfigError
from cspine.serve.app_state import EXTENSION, Service
from cspine.serve.schemas.requests import max_body_bytes
from cspine.serve.telemetry import make_metrics_app
from cspine.serve.waitress_server.dispatcher import (
    LastingDispatcher,
    bound_memory,
    raise_file_limit,
)
from cspine.serve.waitress_server.listener import (
    MAX_CONNECTIONS,
    MAX_HEADER_BYTES,
    RESERVE,
    Deadlines,
    DeadlineServer,
    ListenerOptions,
    Sockets,
)

logger = logging.getLogger(__name__)

# How long a stopping service still tells that it is stopping.
STOP_NOTICE_S = 1.0
STOP_LIMIT_S = 30.0
# A prediction has a deadline of its own. What takes this much longer will not end: it hangs.
WORK_MARGIN_S = 30.0
# For health, metrics, the page and refusals, while every place is taken.
SPARE_THREADS = 8
# Waitress's 8 KiB would mean thousands of turns of the loop for one large image.
_RECEIVE_BYTES = 256 * 1024
_WAKE_S = 1
_BREATH_S = 0.01
_ANSWER_BYTES = 1024**3  # more than any answer has


class Runner:
    """One service on its listeners. Build it, call `run`, and `stop` from anywhere.

    Args:
        app: from `create_app`.
        deadlines: of the listeners, but `work_s`, which follows the settings.
        stop_notice_s: how long a stopping service still tells that it is stopping.

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
        raise_file_limit()
        # A thread for each place: with fewer, the queue would be Waitress's, which nobody measures.
        self._dispatcher = LastingDispatcher(settings.max_queue + SPARE_THREADS)
        # With fewer, the places would never fill, and who comes too many would not be told.
        self._connections = max(MAX_CONNECTIONS, settings.max_queue + SPARE_THREADS + 2 * RESERVE)
        # One map for all listeners, so that one loop serves them.
        self._map = Sockets()
        self._body_bytes = max_body_bytes(settings)
        options = ListenerOptions(
            deadlines=replace(deadlines, work_s=settings.deadline_s + WORK_MARGIN_S),
            is_full=self._is_full,
            cors_origins=settings.cors_origins,
            count_refused_request=self._service.metrics.count_request,
        )
        # Those of the main address first, then those of the metrics.
        self.servers = self._listen(app, settings.listen, options)
        if settings.metrics_listen is not None:
            metrics_app = make_metrics_app(self._service.metrics)
            self.servers += self._listen(metrics_app, settings.metrics_listen, ListenerOptions())
        self._stop_notice_s = stop_notice_s
        self._stopping_since_s: float | None = None
        self._ending = threading.Event()

    @property
    def port(self) -> int:
        """Return the port of the first listener."""
        return int(self.servers[0].effective_port)

    def _is_full(self) -> bool:
        return self._service.inference.admission.is_full

    def _listen(
        self, app: Callable[..., Any], address: tuple[str, int], options: ListenerOptions
    ) -> list[DeadlineServer]:
        """Return a bound server for each address that the host's name stands for.

        Raises:
            ConfigError: there is no such address here, or another has its port.
        """
        try:
            return self._bind(app, *address, options)
        except (OSError, ValueError) as error:  # Waitress says ValueError of a name that is none
            raise ConfigError(
                "`CSPINE_LISTEN` and `CSPINE_METRICS_LISTEN` must be addresses of this machine on "
                f"ports that nobody else has. Received: {address[0]}:{address[1]} ({error})"
            ) from error

    def _bind(
        self, app: Callable[..., Any], host: str, port: int, options: ListenerOptions
    ) -> list[DeadlineServer]:
        adjustments = Adjustments(
            listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            connection_limit=self._connections,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=self._body_bytes,
            # Bodies stay in memory: no image touches a disk.
            inbuf_overflow=self._body_bytes,
            # Nor one of an answer, which may hold the picture: Waitress's 1 MiB goes to a file.
            outbuf_overflow=_ANSWER_BYTES,
            recv_bytes=_RECEIVE_BYTES,
            # Keeps reading, so that a vanished client is noticed.
            channel_request_lookahead=1,
            # Seconds between two looks at the deadlines (`listener.py`).
            cleanup_interval=1,
            # `select` fails from file descriptor 1024 on.
            asyncore_use_poll=True,
            asyncore_loop_timeout=_WAKE_S,
            # No `Server` header: it would tell what to attack.
            ident=None,
        )
        return [
            DeadlineServer(
                app,
                self._map,
                options=options,
                dispatcher=self._dispatcher,
                adj=adjustments,
                sockinfo=sockinfo,
            )
            for sockinfo in adjustments.listen
        ]

    def run(self) -> None:
        """Serve until `stop` has been called and what was accepted is done."""
        watcher = self._service.models.watch(self._ending)
        while not self._is_done():
            # A turn at a time, so that the end is looked for in between.
            wasyncore.loop(timeout=_WAKE_S, use_poll=True, map=self._map, count=1)
            if self._is_full():
                # Each turn walks over all connections: what comes meanwhile is refused in one.
                time.sleep(_BREATH_S)
        for server in self.servers:
            server.close()
        self._dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map)
        # What compiles as the interpreter ends would take the process with it.
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
                self.servers[0].pull_trigger()

    def _is_done(self) -> bool:
        if self._stopping_since_s is None:
            return False
        stopping_s = time.monotonic() - self._stopping_since_s
        busy = self._service.inference.admission.taken or any(one.is_busy for one in self.servers)
        return stopping_s > STOP_LIMIT_S or (stopping_s > self._stop_notice_s and not busy)
