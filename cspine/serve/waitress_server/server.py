"""Serve an application with Waitress, and stop without dropping accepted requests.

Once `Runner.stop` is called, the service announces that it is stopping: `/health/ready` answers 503
and new predictions are refused. The service ends when no request is in progress, at the latest
after STOP_LIMIT_S.
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

# How long a stopping service goes on to announce that it is stopping.
STOP_NOTICE_S = 1.0
STOP_LIMIT_S = 30.0
# A prediction has its own deadline. A request that takes this much longer than the deadline hangs.
WORK_MARGIN_S = 30.0
# Threads for health, metrics, the page and refusals while every slot for predictions is taken.
SPARE_THREADS = 8
# The number of sockets of Waitress's event loop. It is raised if there are more slots for
# predictions: with fewer sockets than slots, no request would ever be refused.
MAX_SOCKETS = 512
# Sockets that connections without a request must leave free.
RESERVE = 32
MAX_HEADER_BYTES = 32 * 1024
# For each request in a read, Waitress copies the rest of the read while all other connections wait.
# With its default of 8 KiB, one large image would need thousands of iterations of the loop.
_RECEIVE_BYTES = 64 * 1024
_WAKE_S = 1
_NEVER_S = 10**9
_ANSWER_BYTES = 1024**3  # more than any answer has


class Runner:
    """One service on its listeners: `run` serves until `stop` is called from any thread.

    Args:
        app: the result of `create_app`.
        deadlines: the deadlines of all connections; `work_s` is replaced by one from the settings.
        stop_notice_s: how long a stopping service goes on to announce that it is stopping.

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
        # Each slot for predictions has a thread. With fewer threads, requests would wait in
        # Waitress and not be measured.
        threads = settings.max_queue + SPARE_THREADS
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.set_thread_count(threads)
        # Sockets may use half of the open files, so that a flood of connections leaves the other
        # half for everything else.
        places = min(max(MAX_SOCKETS - RESERVE, threads + RESERVE), raise_file_limit() // 2)
        deadlines = replace(deadlines, work_s=settings.deadline_s + WORK_MARGIN_S)
        self.sockets = Sockets(deadlines, places)
        # The listeners of the main address come first, because `port` reads the first one.
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
        """Return a bound listener for each address to which the host name resolves.

        Raises:
            ConfigError: this machine has no such address, or another program has the port.
        """
        host, port = address
        body_bytes = max_body_bytes(self._service.settings)
        try:
            adjustments = Adjustments(
                listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                connection_limit=self.sockets.places + RESERVE,
                max_request_header_size=MAX_HEADER_BYTES,
                max_request_body_size=body_bytes,
                # Bodies and answers may hold a patient's picture, so none is written to a file.
                inbuf_overflow=body_bytes,
                outbuf_overflow=_ANSWER_BYTES,
                recv_bytes=_RECEIVE_BYTES,
                # Waitress reads on during a request, so that it notices a vanished client.
                channel_request_lookahead=1,
                # Waitress's time-out is off, because it uses the system time, which may be changed.
                channel_timeout=_NEVER_S,
                # `poll` is used, because `select` fails for file descriptors of 1024 and more.
                asyncore_use_poll=True,
                # There is no `Server` header, because it would tell an attacker what to attack.
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
        except (OSError, ValueError) as error:  # ValueError: the host name is malformed
            raise ConfigError(
                "`CSPINE_LISTEN` and `CSPINE_METRICS_LISTEN` must be addresses of this machine on "
                f"ports that no other program uses. Received: {host}:{port} ({error})"
            ) from error

    def run(self) -> None:
        """Serve until `stop` has been called and all accepted requests are done."""
        watcher = self._service.models.watch(self._ending)
        while not self._is_done():
            # Limits and the end of the service are checked after each iteration of the loop.
            wasyncore.loop(timeout=_WAKE_S, use_poll=True, map=self.sockets, count=1)
            self.sockets.enforce_limits()
        for listener in self.listeners:
            listener.close()
        self._dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self.sockets)
        # A model that compiles while the interpreter shuts down would crash the process.
        watcher.join(STOP_LIMIT_S)
        logger.info("stopped")

    def stop(self) -> None:
        """Refuse new work, and let `run` return once all accepted requests are done.

        A signal handler may call this.
        """
        if self._stopping_since_s is None:
            self._service.is_stopping = True
            self._service.inference.admission.close()
            self._stopping_since_s = time.monotonic()
            self._ending.set()
            # The trigger wakes the loop. The loop may have ended already and closed the trigger,
            # which raises an OSError here.
            with suppress(OSError):
                self.listeners[0].pull_trigger()

    def _is_done(self) -> bool:
        if self._stopping_since_s is None:
            return False
        stopping_s = time.monotonic() - self._stopping_since_s
        busy = self._service.inference.admission.taken or self.sockets.is_busy
        return stopping_s > STOP_LIMIT_S or (stopping_s > self._stop_notice_s and not busy)
