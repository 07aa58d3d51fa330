"""The parts of one service that its views share, and the function that finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import current_app, request

from cspine.core.serve_settings import ServeSettings
from cspine.serve.inference_service import InferenceService
from cspine.serve.model_manager import ModelManager
from cspine.serve.telemetry import Metrics

# In the app, not in a module's global: a process may hold several services, as the tests do.
EXTENSION = "cspine"


@dataclass
class Service:
    """One running service.

    Fields:
        settings: its settings.
        models: holds the model that is served.
        inference: answers requests.
        metrics: its metrics.
        is_stopping: set once, when it is asked to stop.
    """

    settings: ServeSettings
    models: ModelManager
    inference: InferenceService
    metrics: Metrics
    is_stopping: bool = False

    @property
    def state(self) -> str:
        """Return `ready`, `stopping`, or `failing` if predictions fail or the network hangs."""
        if self.is_stopping:
            return "stopping"
        # No inference of its own: that would take a stream from a patient's image. One that runs
        # for longer than a whole prediction may hangs: its answer is never sent.
        hangs = self.models.current.engine.busy_s() > self.settings.deadline_s
        return "failing" if hangs or self.inference.failures.is_long else "ready"

    @property
    def is_ready(self) -> bool:
        """Return whether the model answers and the service is not stopping."""
        return self.state == "ready"


def find_service() -> Service:
    """Return the service of the app that handles the current request."""
    return cast(Service, current_app.extensions[EXTENSION])


def watch_client() -> Callable[[], bool]:
    """Return a function that says whether the current request's client is still connected."""
    # Only Waitress says so; under another WSGI server every client counts as connected.
    is_gone = request.environ.get("waitress.client_disconnected", lambda: False)
    return lambda: not is_gone()
