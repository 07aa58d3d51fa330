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
