"""A tiny real model, built once for the session, and a picture to ask about."""

import pytest
from tiny_model import as_png, draw_neck, find_tiny_model


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    return find_tiny_model(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def neck_png() -> bytes:
    return as_png(draw_neck())
