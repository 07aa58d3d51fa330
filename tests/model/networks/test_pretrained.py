"""Where weights come from is always said, and a file that cannot be had is named."""

import numpy as np
import pytest

from cspine.core.errors import ConfigError
from cspine.model.networks import pretrained
from cspine.model.networks.architectures import ARCHITECTURES
from cspine.model.networks.backbones import number_layers
from cspine.model.networks.classifier import build_classifier

FILE = ARCHITECTURES["xception"].weights_file


def test_weights_of_a_folder_are_taken(saved, tmp_path):
    source = saved("xception").classifier
    source.backbone.save(tmp_path / FILE, include_optimizer=False)
    got = build_classifier("xception", 71, weights=tmp_path)
    assert got.origin["origin"] == tmp_path.name and len(got.origin["sha256"]) == 64
    pairs = zip(source.backbone.get_weights(), got.backbone.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_a_missing_file_says_what_belongs_where(tmp_path):
    with pytest.raises(ConfigError, match=f"(?s){FILE} in .*--weights none"):
        build_classifier("xception", 71, weights=tmp_path)


def test_imagenet_that_cannot_be_had_is_no_silent_fallback(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "keras_home", lambda: str(tmp_path))
    monkeypatch.setattr(pretrained, "_download", lambda architecture: None)
    with pytest.raises(ConfigError, match=f"{FILE} in {tmp_path / 'models'}.*--weights none"):
        build_classifier("xception", 71, weights="imagenet")


def test_a_file_of_another_network_is_named(saved, tmp_path):
    (tmp_path / FILE).write_bytes(saved("cnn").path.read_bytes())
    with pytest.raises(ConfigError, match="cannot be used"):
        build_classifier("xception", 71, weights=tmp_path)


def test_the_cnn_starts_from_scratch_always():
    assert build_classifier("cnn", 32, weights="imagenet").origin["origin"] == "none"


def test_automatic_names_are_numbered_by_order_of_building():
    names = ["conv2d_9", "block1_conv1", "conv2d_10", "add", "conv2d_7", "logit"]
    assert number_layers(names) == {
        "auto_conv2d_1": "conv2d_7",
        "auto_conv2d_2": "conv2d_9",
        "auto_conv2d_3": "conv2d_10",
        "auto_add_1": "add",
    }
