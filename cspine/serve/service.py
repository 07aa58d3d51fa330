"""The parts that the views of one service share, and how a view finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from flask import current_app, request

from cspine.core.settings import ServeSettings
from cspine.serve.models import ModelHolder
from cspine.serve.road import Road
from cspine.serve.telemetry import Metrics

# Found through the app and not through a module's global: a process may hold several services, as
# the tests do.
EXTENSION = "cspine"


@dataclass
class Service:
    """One running service. `is_stopping` is set once, when it is told to end."""

    settings: ServeSettings
    models: ModelHolder
    road: Road
    metrics: Metrics
    is_stopping: bool = field(default=False)

    @property
    def is_ready(self) -> bool:
        """Return whether the model answers and the service goes on."""
        # Not asked of the engine: a probe that infers would take a stream from a patient's image.
        return not self.is_stopping and not self.road.failures.is_long


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
