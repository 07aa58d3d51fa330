"""int8: quantise an exported network after training, from calibration images (NNCF).

Weights use half of int8's range throughout: processors without VNNI multiply bytes with a
saturating 16-bit sum, which the full range overflows silently, so a file made on one machine would
answer differently on another. Whether int8 is good enough is not known here; the trainer measures.
"""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

import numpy as np
import openvino as ov

from cspine.core.errors import ArtifactError
from cspine.imaging.channels import as_network_input
from cspine.model.export.ir import INT8_NAME, IR_NAME, read_ir, write_ir

_CONVOLUTIONS = ("Convolution", "GroupConvolution")


def quantise_ir(folder: Path, h5_sha256: str, images: np.ndarray) -> Path:
    """Write `best_int8.xml` and `.bin` from the f32 IR in `folder`; return the `.xml`'s path.

    `images` are calibration crops, uint8 (N, S, S); a few hundred training crops are plenty.

    Raises:
        ArtifactError: `folder` holds no f32 IR of that `.h5`.
    """
    network = read_ir(folder / IR_NAME, h5_sha256)
    if network is None:
        raise ArtifactError(f"{IR_NAME} must belong to the model being quantised. Received: not so")
    write_ir(quantise_network(network, images), folder / INT8_NAME, h5_sha256)
    return folder / INT8_NAME


def quantise_network(network: ov.Model, images: np.ndarray) -> ov.Model:
    """An int8 version of `network`, its ranges taken from `images`, uint8 (N, S, S)."""
    import nncf  # heavy, and needed by no other step
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # NNCF logs every step.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    # One by one, as served: ranges are found for batches of 1.
    pixels = [as_network_input(one[None]) for one in images]  # (1, S, S, 3)
    # NNCF draws progress bars there, unasked.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            network,
            nncf.Dataset(pixels),
            # After ReLU one-sided, else two-sided.
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pixels),
            ignored_scope=nncf.IgnoredScope(names=_exact_nodes(network)),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE,
                # NNCF's own choice, the mean over images of each one's largest, cuts off the
                # strongest answers: those that a fracture gives.
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )


def _exact_nodes(network: ov.Model) -> list[str]:
    """Names of what stays in f32: the map's convolution, and all that no other one comes after.

    It costs next to nothing, and its values are the answer itself, or lie too far apart for 256
    steps: weights of a softmax over all places, sums for the embedding that the gate measures.
    """
    exact: list[str] = []
    feeds: set[str] = set()  # names of what a quantised convolution comes after
    for node in reversed(network.get_ordered_ops()):
        name, readers = node.get_friendly_name(), _readers(node)
        if any(one.get_friendly_name() in feeds or _is_quantised(one) for one in readers):
            feeds.add(name)
        elif not _is_quantised(node) and node.get_type_name() not in ("Constant", "Result"):
            exact.append(name)
    return exact


def _readers(node: ov.Node) -> list[ov.Node]:
    return [port.get_node() for output in node.outputs() for port in output.get_target_inputs()]


def _is_quantised(node: ov.Node) -> bool:
    """Whether `node` is a convolution, and not that of the map, which gives one channel."""
    return node.get_type_name() in _CONVOLUTIONS and node.get_output_partial_shape(0)[1] != 1
