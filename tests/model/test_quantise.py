"""Quantising: what stays exact, and what must be there before."""

import numpy as np
import pytest

from cspine.core.errors import ArtifactError
from cspine.model.quantise import quantise_ir


def test_the_f32_network_must_belong_to_the_model(tmp_path):
    with pytest.raises(ArtifactError, match=r"best.xml must belong to the model"):
        quantise_ir(tmp_path, "0" * 64, np.zeros((1, 64, 64), np.uint8))
