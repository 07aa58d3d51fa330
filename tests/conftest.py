"""What every test may rely on."""

import os

import pytest


@pytest.fixture(autouse=True)
def untouched_environment():
    """Undo what a test's entry points set, so that no later child process inherits it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """The folder of a tiny real model, built by a child process at the first request."""
    from support.tiny_model import build_tiny_model

    return build_tiny_model(tmp_path_factory.getbasetemp() / "tiny")


@pytest.fixture(scope="session")
def neck_png() -> bytes:
    from support.tiny_model import as_png, draw_neck

    return as_png(draw_neck())
