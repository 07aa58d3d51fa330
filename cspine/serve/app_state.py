"""The parts of one service that its views share, and the function that finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import current_app, request

from cspine.core.serve_settings import ServeSettings
from cspine.serve.hot_reload import ModelManager
from cspine.serve.inference_service import InferenceService
from cspine.serve.telemetry import Metrics

# The service is kept in the app under this name, not in a global variable, because a process may
# hold several services, as the tests do.
EXTENSION = "cspine"


@dataclass
class Service:
    """One running service.

    Fields:
        settings: the service's settings.
        models: holds the model that is served.
        inference: answers requests.
        metrics: the service's metrics.
        is_stopping: becomes true when the service is told to stop, and stays true.
    """

    settings: ServeSettings
    models: ModelManager
    inference: InferenceService
    metrics: Metrics
    is_stopping: bool = False

    @property
    def state(self) -> str:
        """Return `stopping`, `failing` (predictions fail or the network hangs) or `ready`."""
        if self.is_stopping:
            return "stopping"
        # This check runs no inference, because that would take a stream from a patient's image. An
        # inference that runs for longer than the deadline of a prediction counts as hanging: its
        # answer is never sent.
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
    """Return a function that tells whether the client of the current request is connected."""
    # Only Waitress provides this. Under another WSGI server, every client counts as connected.
    is_gone = request.environ.get("waitress.client_disconnected", lambda: False)
    return lambda: not is_gone()
