"""One `.h5`, three readers: plain Keras, the project's own loading, the engine. All agree."""

import keras
import numpy as np
import pytest

from cspine.model.engine.engine import Engine
from cspine.model.networks.architectures import ARCHITECTURES
from cspine.model.store.keras_weights import load_classifier
from cspine.model.store.registry import resolve_version
from cspine.model.store.weights_file import read_h5

NAMES = sorted(ARCHITECTURES)
TOLERANCE = 1e-4


def run(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    outputs = model(images.astype("float32"), training=False)
    return {name: np.asarray(value) for name, value in outputs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_plain_keras_gives_the_probability(name, saved):
    one = saved(name)
    model = keras.models.load_model(one.path, compile=False)
    probability = np.asarray(model(one.images.astype("float32")))
    logit = run(one.classifier.serving, one.images)["logit"]
    assert probability.shape == (3, 1)
    assert np.allclose(probability, 1 / (1 + np.exp(-logit)), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_own_loading_gives_every_output(name, saved):
    one = saved(name)
    loaded, contents = load_classifier(one.path)
    wanted, got = run(one.classifier.serving, one.images), run(loaded.serving, one.images)
    assert contents.facts["architecture"] == name
    for key, values in wanted.items():
        assert np.array_equal(got[key], values), key


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_agrees_with_keras(name, saved):
    one = saved(name)
    engine = Engine.load(resolve_version(one.path.parent))
    output = engine.infer(one.images)
    for key, values in run(one.classifier.serving, one.images).items():
        got = getattr(output, key)
        # Of the largest value: each is a sum of terms that large, which processors round apart.
        scale = TOLERANCE + 1e-5 * np.abs(got).max()
        assert np.allclose(got, values.reshape(got.shape), rtol=0, atol=scale), key
    assert np.allclose(output.cam.mean((1, 2)), output.logit, atol=TOLERANCE)


def test_facts_and_arrays_come_back(saved):
    contents = read_h5(saved("cnn").path)
    assert contents.facts["view"] == "vertebra"
    assert contents.decision["calibration"]["method"] == "platt"
    assert contents.arrays["in_distribution_gains"].tolist() == [0, 1, 2, 3, 4]
