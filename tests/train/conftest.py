"""The samples that most of the training's tests fit."""

from __future__ import annotations

import pytest

from cspine.data.samples import Samples
from support.train_samples import draw_samples


@pytest.fixture
def samples() -> Samples:
    return draw_samples()
