"""The parts that the views of one service share, and how a view finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from flask import current_app, request

from cspine.core.serve_settings import ServeSettings
from cspine.serve.inference_service import InferenceService
from cspine.serve.model_manager import ModelManager
from cspine.serve.telemetry import Metrics

# Found through the app and not through a module's global: a process may hold several services, as
# the tests do.
EXTENSION = "cspine"


@dataclass
class Service:
    """One running service. `is_stopping` is set once, when it is told to end."""

    settings: ServeSettings
    models: ModelManager
    inference: InferenceService
    metrics: Metrics
    is_stopping: bool = field(default=False)

    @property
    def state(self) -> str:
        """Return `ready`, `stopping`, or `failing` where predictions fail or the network hangs."""
        if self.is_stopping:
            return "stopping"
        # Looked at, and no inference of its own: that would take a stream from a patient's image.
        # What takes longer than a whole prediction may is not slow: its answer is never sent.
        hangs = self.models.current.engine.busy_s() > self.settings.deadline_s
        return "failing" if hangs or self.inference.failures.is_long else "ready"

    @property
    def is_ready(self) -> bool:
        """Return whether the model answers and the service goes on."""
        return self.state == "ready"


def find_service() -> Service:
    """Return the service of the app that handles the current request."""
    return cast(Service, current_app.extensions[EXTENSION])


def _connected() -> bool:
    return True


def watch_client() -> Callable[[], bool]:
    """Return a function that says whether the current request's client is still connected."""
    # Waitress alone says so; under another WSGI server every client counts as there.
    gone = request.environ.get("waitress.client_disconnected")
    return _connected if gone is None else lambda: not gone()
