"""The samples that most of the training's tests fit."""

from __future__ import annotations

import pytest
from train_samples import draw_samples

from cspine.data.samples import Samples


@pytest.fixture
def samples() -> Samples:
    return draw_samples()
