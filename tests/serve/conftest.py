"""A service with a predictor of the tests' own, on a real socket at need, or with a real model."""

import threading

import pytest

from cspine.core.serve_settings import ServeSettings
from cspine.serve.app import create_app
from cspine.serve.waitress_server.eviction import Deadlines
from cspine.serve.waitress_server.server import Runner
from support.service_fakes import FakePredictor, make_png


@pytest.fixture
def png() -> bytes:
    return make_png()


@pytest.fixture
def predictor() -> FakePredictor:
    return FakePredictor()


@pytest.fixture
def settings() -> ServeSettings:
    return ServeSettings(listen=("127.0.0.1", 0), max_queue=4)


@pytest.fixture
def app(settings, predictor):
    return create_app(settings, predictor)


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def serve_app():
    """Returns a function that serves an app on a free port and gives its address."""
    running = []

    def serve(app, deadlines=Deadlines()) -> Runner:  # noqa: B008 (frozen)
        runner = Runner(app, deadlines, stop_notice_s=0.0)
        thread = threading.Thread(target=runner.run, daemon=True)
        thread.start()
        running.append((runner, thread))
        return runner

    yield serve
    for runner, thread in running:
        runner.stop()
        thread.join(timeout=40)
