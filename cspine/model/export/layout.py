"""Remove nearly all transposes from a network that was traced from Keras, by computing in planes.

Keras stores pictures as (N, H, W, C), OpenVINO's convolutions as planes (N, C, H, W), so a trace
transposes each tensor before and after every convolution, pooling and normalisation; in int8 that
takes half of the time. This module transposes a picture once, as bytes. Later operations compute in
planes until one needs the traced layout. No number changes, only the order in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
from openvino import opset13 as ops

Order = tuple[int, ...]
# A computed tensor and its order: axis i of the traced tensor is its axis order[i].
Computed = tuple[ov.Output, Order]

_TO_PLANES, _AS_TRACED = (0, 3, 1, 2), (0, 1, 2, 3)
_CHANNELS = 1


def lay_out_in_planes(network: ov.Model) -> None:
    """Change `network`, in place, so that it computes in planes (N, C, H, W).

    Inputs and outputs keep their shapes; outputs lose their names. An operation without a rule gets
    its input in the traced layout, which is slower but correct.
    """
    _drop_empty_converts(network)
    # Listed before the new transposes of the inputs are added.
    nodes = network.get_ordered_ops()
    computed: dict[ov.Output, Computed] = {}
    for port in network.inputs:
        if len(port.get_partial_shape()) == len(_TO_PLANES):
            picture = port.get_node().output(0)
            computed[picture] = (_turn(picture, _TO_PLANES), _inverse(_TO_PLANES))
    for node in nodes:
        _rewire(node, computed)
    network.validate_nodes_and_infer_types()


def _drop_empty_converts(network: ov.Model) -> None:
    """Remove conversions of a type to itself, because they hide constants from the rules."""
    for node in network.get_ops():
        if node.get_type_name() == "Convert":
            source = node.input_value(0)
            if source.get_element_type() == node.get_output_element_type(0):
                node.output(0).replace(source)


def _rewire(node: ov.Node, computed: dict[ov.Output, Computed]) -> None:
    """Let `node` read computed tensors: by its rule, or else transposed to the traced layout."""
    if node.get_type_name() == "Transpose":
        tensor, order = computed.get(node.input_value(0), (node.input_value(0), _AS_TRACED))
        turn = _constant(node, 1)
        if turn is not None and len(turn) == len(order):
            computed[node.output(0)] = (tensor, tuple(order[axis] for axis in turn))
            return
    found = {
        at: computed[value] for at, value in enumerate(node.input_values()) if value in computed
    }
    if not found:
        return
    rule = _RULES.get(node.get_type_name())
    result = rule(node, found) if rule else None
    if result is not None:
        computed[node.output(0)] = result
        return
    for at, (tensor, order) in found.items():
        node.input(at).replace_source_output(_turn(tensor, order))
    node.validate_and_infer_types()


def _one_by_one(node: ov.Node, found: dict[int, Computed]) -> Computed | None:
    """Rule for an element-wise operation, which works in any order of the axes."""
    tensor, order = found[0]
    return _read(node, {0: tensor}, order)


def _pair(node: ov.Node, found: dict[int, Computed]) -> Computed | None:
    """Rule for two tensors of one order, or a tensor and a constant, which is transposed to it."""
    order = _shared_order(found)
    if order is None:
        return None
    sources = {at: tensor for at, (tensor, _) in found.items()}
    for at in {0, 1} - found.keys():
        constant = _constant(node, at)
        if constant is None:
            return None
        if constant.size > 1:
            full = constant.reshape((1,) * (len(order) - constant.ndim) + constant.shape)
            sources[at] = ops.constant(full.transpose(_inverse(order))).output(0)
    return _read(node, sources, order)


def _pad(node: ov.Node, found: dict[int, Computed]) -> Computed | None:
    """Rule for padding: reorder its begins and ends as the axes."""
    tensor, order = found[0]
    begins, ends = _constant(node, 1), _constant(node, 2)
    if begins is None or ends is None:
        return None
    turned = [ops.constant(one[list(_inverse(order))]).output(0) for one in (begins, ends)]
    return _read(node, {0: tensor, 1: turned[0], 2: turned[1]}, order)


def _normalise(node: ov.Node, found: dict[int, Computed]) -> Computed | None:
    """Rule for a batch norm, whose channel axis must be 1; height and width may be swapped."""
    tensor, order = found[0]
    return _read(node, {0: tensor}, order) if order[_CHANNELS] == _CHANNELS else None


def _join(node: ov.Node, found: dict[int, Computed]) -> Computed | None:
    """Rule for joining tensors of one order, along the axis in that order."""
    order = _shared_order(found)
    if order is None or len(found) != len(node.inputs()):
        return None
    axis = order[node.get_attributes()["axis"]]
    joined = ops.concat([found[at][0] for at in range(len(found))], axis)
    return joined.output(0), order


_Rule = Callable[[ov.Node, dict[int, Computed]], Computed | None]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("Convert", "Relu", "Sigmoid"), _one_by_one),
    **dict.fromkeys(("Add", "Multiply"), _pair),
    "Pad": _pad,
    "BatchNormInference": _normalise,
    "Concat": _join,
}


def _read(node: ov.Node, sources: dict[int, ov.Output], order: Order) -> Computed:
    """Connect `sources` to the numbered inputs of `node`, whose output then has `order`."""
    for at, source in sources.items():
        node.input(at).replace_source_output(source)
    node.validate_and_infer_types()
    return node.output(0), order


def _shared_order(found: dict[int, Computed]) -> Order | None:
    """Return the order of all tensors in `found`, or None if their orders differ."""
    orders = {order for _, order in found.values()}
    return orders.pop() if len(orders) == 1 else None


def _constant(node: ov.Node, at: int) -> np.ndarray | None:
    source = node.input_value(at).get_node()
    return np.asarray(source.get_data()) if source.get_type_name() == "Constant" else None


def _turn(tensor: ov.Output, order: Order) -> ov.Output:
    """Return `tensor` transposed so that its axis `order[i]` becomes axis i."""
    if order == _AS_TRACED:
        return tensor
    return ops.transpose(tensor, np.array(order, np.int64)).output(0)


def _inverse(order: Order) -> Order:
    return tuple(order.index(axis) for axis in range(len(order)))
