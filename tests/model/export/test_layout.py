"""Laying a network out in planes: the same numbers, with almost no transposes left."""

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openvino import opset13 as ops

from cspine.model.export.ir import export_ir
from cspine.model.export.layout import lay_out_in_planes
from cspine.model.networks.architectures import ARCHITECTURES

PICTURE = np.random.default_rng(0).random((1, 6, 8, 4), np.float32)
Step = Callable[[ov.Node, np.random.Generator], ov.Node]


def turn(node: ov.Node, *order: int) -> ov.Node:
    return ops.transpose(node, np.array(order, np.int64))


def convolve(node: ov.Node, random: np.random.Generator) -> ov.Node:
    kernel = ops.constant(random.standard_normal((4, 4, 1, 1), np.float32))
    # To itself: Keras writes such conversions after every convolution.
    planes = ops.convert(turn(node, 0, 3, 1, 2), "f32")
    result = ops.convolution(planes, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    return turn(ops.convert(result, "f32"), 0, 2, 3, 1)


def normalise(node: ov.Node, random: np.random.Generator) -> ov.Node:
    parts = [ops.constant(random.random(4, np.float32) + 0.5) for _ in range(4)]
    # Height and width change places, as in Keras's trace.
    swapped = ops.batch_norm_inference(turn(node, 0, 3, 2, 1), *parts, epsilon=1e-3)
    return turn(swapped, 0, 3, 2, 1)


def add_bias(node: ov.Node, random: np.random.Generator) -> ov.Node:
    return ops.add(node, ops.constant(random.standard_normal((1, 1, 1, 4), np.float32)))


def add_position(node: ov.Node, random: np.random.Generator) -> ov.Node:
    return ops.add(node, ops.constant(random.standard_normal((6, 8, 1), np.float32)))


def pad_and_cut(node: ov.Node, random: np.random.Generator) -> ov.Node:
    del random
    wide = ops.pad(node, [0, 1, 2, 0], [0, 0, 1, 3], "constant", ops.constant(np.float32(-2)))
    # No rule for it: it must get what it was traced with.
    return ops.slice(wide, [0, 1, 0], [6, 9, 4], [1, 1, 1], [1, 2, 3])


def join_with_itself(node: ov.Node, random: np.random.Generator) -> ov.Node:
    half = ops.constant(random.standard_normal((1, 1, 1, 8), np.float32))
    twice = ops.multiply(ops.concat([ops.relu(node), node], -1), half)
    kernel = ops.constant(random.standard_normal((4, 8, 1, 1), np.float32))
    planes = ops.convolution(turn(twice, 0, 3, 1, 2), kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    return ops.add(turn(planes, 0, 2, 3, 1), node)


def add_swapped(node: ov.Node, random: np.random.Generator) -> ov.Node:
    """Two tensors that lie differently, of which only one may be turned."""
    del random
    square = ops.slice(node, [0], [6], [1], [2])
    both = ops.add(square, turn(convolve(square, np.random.default_rng(1)), 0, 2, 1, 3))
    return ops.concat([both, ops.slice(node, [6], [8], [1], [2])], 2)


STEPS: list[Step] = [
    convolve,
    normalise,
    add_bias,
    add_position,
    pad_and_cut,
    join_with_itself,
    add_swapped,
]


def make_network(steps: list[Step], seed: int) -> ov.Model:
    random = np.random.default_rng(seed)
    picture = node = ops.parameter(PICTURE.shape, np.float32)
    for step in steps:
        node = step(node, random)
    return ov.Model([node, ops.reduce_mean(node, [1, 2])], [picture])


def run(network: ov.Model) -> list[np.ndarray]:
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    answer = ov.Core().compile_model(network, "CPU", exact)(PICTURE)
    return [np.array(answer[port]) for port in answer]


def count_transposes(network: ov.Model) -> int:
    return sum(node.get_type_name() == "Transpose" for node in network.get_ops())


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_any_network_keeps_its_numbers_and_shapes(steps, seed):
    network = make_network(steps, seed)
    wanted = run(network)
    lay_out_in_planes(network)
    for got, want in zip(run(network), wanted, strict=True):
        assert got.shape == want.shape
        assert np.allclose(got, want, rtol=1e-4, atol=1e-3 * np.abs(want).max())


def test_a_chain_is_turned_once_and_back_at_its_end():
    network = make_network([convolve, normalise, add_bias, join_with_itself] * 3, 0)
    assert count_transposes(network) == 3 * 6
    lay_out_in_planes(network)
    # The picture, and each of the two readers of the last tensor.
    assert count_transposes(network) == 3


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_exported_networks_turn_the_picture_and_its_last_maps(name, saved, tmp_path):
    network = ov.Core().read_model(export_ir(saved(name).path, tmp_path))
    turned = [node for node in network.get_ordered_ops() if node.get_type_name() == "Transpose"]
    assert turned[0].get_output_shape(0) == ov.Shape([1, 3, *network.inputs[0].shape[1:3]])
    # The others turn the small maps that the answer and its explanation are made of.
    assert len(turned) <= 5
