"""Quantising: what stays exact, and what must be there before."""

import numpy as np
import openvino as ov
import pytest
from openvino import opset14 as op

from cspine.core.errors import ArtifactError
from cspine.model.engine.engine import Engine
from cspine.model.export.ir import IR_NAME, export_ir, read_ir
from cspine.model.export.quantise import _exact_nodes, quantise_ir, quantise_network


def test_the_f32_network_must_belong_to_the_model(tmp_path):
    with pytest.raises(ArtifactError, match=r"best.xml must belong to the model"):
        quantise_ir(tmp_path, "0" * 64, np.zeros((1, 64, 64), np.uint8))


def build_map_network(side: int) -> ov.Model:
    """Two convolutions and a map with a bias, padded as one that lost its rim."""
    random = np.random.default_rng(0)
    pixels = op.parameter([1, side, side, 3], np.uint8)
    maps = op.transpose(op.convert(pixels, "f32"), np.array([0, 3, 1, 2]))
    for shape in ((16, 3, 3, 3), (16, 16, 3, 3), (1, 16, 1, 1)):
        weights = op.constant(random.normal(size=shape).astype(np.float32))
        ones, zeros = np.ones(2, np.int64), np.zeros(2, np.int64)
        maps = op.convolution(maps, weights, ones, zeros, zeros, ones)
        maps = op.relu(maps) if shape[0] > 1 else maps
    grid = op.add(
        op.transpose(maps, np.array([0, 2, 3, 1])), np.full((1, 1, 1, 1), 0.5, np.float32)
    )
    ends = np.array([0, 2, 2, 0])
    padded = op.pad(grid, ends, ends, "constant", np.float32(-10))
    return ov.Model([op.sigmoid(padded)], [pixels])


def test_the_map_and_its_bias_stay_exact():
    network = build_map_network(32)
    exact = _exact_nodes(network)
    kinds = {node.get_friendly_name(): node.get_type_name() for node in network.get_ops()}
    after = ["Add", "Convolution", "Pad", "Relu", "Sigmoid", "Transpose"]
    assert sorted(kinds[name] for name in exact) == after
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32), dtype=np.uint8)
    quantised = quantise_network(network, images)
    assert "FakeQuantize" in {node.get_type_name() for node in quantised.get_ops()}
    # Bytes cannot hold the -10 of the padding: a map in bytes would not even compile.
    compiled = ov.Core().compile_model(quantised, "CPU")
    padding = compiled(images[:1, :, :, None].repeat(3, 3))[0][0, 0, 0, 0]
    assert padding == pytest.approx(1 / (1 + np.exp(10)), rel=1e-3)


def test_bytes_keep_the_embedding_that_the_gate_measures(saved, tmp_path):
    one = saved("cnn")
    export_ir(one.path, tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (16, 64, 64), dtype=np.uint8)
    exact = Engine(read_ir(tmp_path / IR_NAME, one.sha256), "f32").infer(images).embedding
    quantised = quantise_network(read_ir(tmp_path / IR_NAME, one.sha256), images)
    lost = Engine(quantised, "int8").infer(images).embedding - exact
    # With the head in bytes, too, it was a third and more.
    assert np.linalg.norm(lost) < 0.1 * np.linalg.norm(exact)
