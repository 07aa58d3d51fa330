"""Revision 2 of `cnn`: the graph for complete slices, and the files that name a revision."""

import json
import shutil

import h5py
import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.core.errors import ArtifactError
from cspine.model.export.ir import export_ir, read_ir
from cspine.model.networks.architectures import choose_image_size, choose_revision
from cspine.model.networks.classifier import build_classifier
from cspine.model.store.hashes import hash_file
from cspine.model.store.keras_weights import load_classifier, save_weights


@pytest.fixture(scope="module")
def network():
    return build_classifier("cnn", 64, seed=3, revision=2)


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("slice") / "best.h5"
    save_weights(network, path, {"threshold": 0.5}, {}, "slice", "real")
    return path


def draw(size=64, count=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(40, 200, (count, size, size, 3)).astype(np.float32)


def set_facts(path, **changes):
    with h5py.File(path, "a") as file:
        facts = json.loads(file["cspine"].attrs["facts"]) | changes
        kept = {name: value for name, value in facts.items() if value is not None}
        file["cspine"].attrs["facts"] = np.bytes_(json.dumps(kept).encode())


@pytest.mark.parametrize("size", [32, 64, 200])
def test_the_last_feature_map_has_a_cell_for_each_eight_pixels(size):
    serving = build_classifier("cnn", size, revision=2).serving
    assert serving.output["cam"].shape == (None, size // 8, size // 8)


def test_the_mean_of_the_cam_is_the_logit(network):
    found = network.serving(draw(), training=False)
    np.testing.assert_allclose(
        np.asarray(found["cam"]).mean((1, 2)), np.asarray(found["logit"])[:, 0], atol=1e-5
    )


@settings(max_examples=15, deadline=None)
@given(gain=st.floats(0.5, 1.25), offset=st.floats(-20, 5))
def test_a_linear_change_of_the_window_changes_nothing(network, gain, offset):
    pixels = draw()
    logits = [np.asarray(network.model(one)) for one in (pixels, gain * pixels + offset)]
    np.testing.assert_allclose(*logits, atol=5e-3)


def test_no_weight_is_a_running_statistic(network):
    assert not [w.path for w in network.model.weights if "moving" in w.path]


def test_complete_slices_without_masks_have_revision_2():
    assert choose_revision("cnn", "slice", with_masks=False) == 2
    assert choose_revision("cnn", "slice", with_masks=True) == 1
    assert choose_revision("cnn", "vertebra", with_masks=False) == 1
    assert choose_revision("xception", "slice", with_masks=False) == 1
    assert choose_image_size("cnn", "slice", with_masks=False) == 128
    assert choose_image_size("cnn", "slice", with_masks=True) == 192
    assert choose_image_size("cnn", "vertebra", with_masks=False) == 192
    assert choose_image_size("xception", "slice", with_masks=False) == 299


def test_the_file_brings_its_revision_back(network, file, tmp_path):
    again, contents = load_classifier(file)
    assert contents.facts["revision"] == again.revision == 2
    np.testing.assert_allclose(*[np.asarray(one.model(draw())) for one in (network, again)])


def test_the_export_computes_what_keras_computes(network, file):
    export_ir(file, file.parent)
    exported = read_ir(file.with_suffix(".xml"), hash_file(file))
    compiled = ov.compile_model(exported, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    pixels = draw(count=1)
    expected = network.serving(pixels, training=False)
    for name in ("logit", "embedding", "cam"):
        found = compiled(pixels.astype(np.uint8))[name]
        np.testing.assert_allclose(found, np.asarray(expected[name]), atol=1e-3)


@pytest.mark.parametrize("revision", [0, 3, True, "2"])
def test_an_unknown_revision_is_refused(file, tmp_path, revision):
    path = shutil.copy(file, tmp_path / "best.h5")
    set_facts(path, revision=revision)
    with pytest.raises(ArtifactError, match="`revision` of the model file must be a value"):
        load_classifier(path)


def test_a_file_without_a_revision_has_the_first(saved, tmp_path):
    path = shutil.copy(saved("cnn").path, tmp_path / "best.h5")
    set_facts(path, revision=None)
    again, _ = load_classifier(path)
    pixels = saved("cnn").images.astype("float32")
    np.testing.assert_allclose(
        np.asarray(again.model(pixels)), np.asarray(saved("cnn").classifier.model(pixels))
    )
