"""Quantise an exported network to int8 after training, with calibration images (NNCF).

All weights use half of int8's range. Processors without VNNI add products of bytes in a saturating
16-bit sum, which the full range would overflow silently, so the same file would answer differently
on another machine. `train/int8_proof.py` measures whether int8 is good enough.
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
    """Write `best_int8.xml` and `.bin` from the f32 network in `folder`; return the `.xml`'s path.

    `images` are calibration crops, uint8 (N, S, S); a few hundred training crops are plenty.

    Raises:
        ArtifactError: `folder` holds no f32 network of that `.h5`.
    """
    network = read_ir(folder / IR_NAME, h5_sha256)
    if network is None:
        raise ArtifactError(
            f"{IR_NAME} must belong to the model being quantised. Received: none that does"
        )
    write_ir(quantise_network(network, images), folder / INT8_NAME, h5_sha256)
    return folder / INT8_NAME


def quantise_network(network: ov.Model, images: np.ndarray) -> ov.Model:
    """Return an int8 version of `network`, with ranges measured on `images`, uint8 (N, S, S)."""
    import nncf  # heavy, and needed by no other step
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # NNCF would log every step.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    # Batches of 1, as in the service.
    pixels = [as_network_input(one[None]) for one in images]  # (1, S, S, 3)
    # NNCF prints progress bars to stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            network,
            nncf.Dataset(pixels),
            # Ranges are one-sided after ReLU, else two-sided.
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pixels),
            ignored_scope=nncf.IgnoredScope(names=_exact_nodes(network)),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE,
                # NNCF's default, the mean of the images' maxima, would cut off the strongest
                # activations, which are those of fractures.
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )


def _exact_nodes(network: ov.Model) -> list[str]:
    """Return names of nodes that stay in f32: those after which no quantised convolution comes.

    The map's convolution is never quantised. These nodes cost little time. Their values are the
    answer itself, or their range is too wide for 256 steps: the softmax weights over all cells, and
    the sums of the embedding, from which the out-of-distribution check measures a distance.
    """
    exact: list[str] = []
    feeds: set[str] = set()  # names of nodes before a quantised convolution
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
    """Return whether `node` is a convolution other than the map's, which has one channel."""
    return node.get_type_name() in _CONVOLUTIONS and node.get_output_partial_shape(0)[1] != 1
