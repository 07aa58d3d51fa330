"""Check a network's inputs and outputs, and compile it with OpenVINO for this machine's CPU."""

from __future__ import annotations

import openvino as ov

from cspine.core.errors import ArtifactError


def check_network(network: ov.Model) -> None:
    """Refuse a network that does not take one picture of a fixed size and give our outputs.

    Raises:
        ArtifactError: the inputs or outputs are wrong; the message says what they must be.
    """
    shapes = [port.get_partial_shape() for port in network.inputs]
    names = {name for port in network.outputs for name in port.get_names()}
    sides = list(shapes[0].to_shape()) if len(shapes) == 1 and shapes[0].is_static else []
    is_picture = len(sides) == 4 and sides == [1, sides[1], sides[1], 3]
    if not is_picture or not names >= {"logit", "embedding", "cam"}:
        raise ArtifactError(
            "The network must take pixels (1, S, S, 3) and give logit, embedding and cam. "
            f"Received: {', '.join(map(str, shapes))}, giving {', '.join(sorted(names)) or 'none'}"
        )


def compile_network(network: ov.Model, precision: str, streams: int) -> ov.CompiledModel:
    """Compile for this CPU; `streams` images are computed at a time and share all cores.

    Raises:
        ArtifactError: OpenVINO cannot compile the network.
    """
    options = {
        # On a CPU, several streams with one image each have a higher throughput than batches.
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(streams),
        # Always set: by default OpenVINO takes bf16 where the CPU has it.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    try:
        return ov.Core().compile_model(network, "CPU", options)
    except RuntimeError as error:
        raise ArtifactError(
            "OpenVINO must be able to compile the network with the available memory. "
            f"Received: {str(error).splitlines()[0][:200]}"
        ) from error


def computed_in(compiled: ov.CompiledModel, precision: str) -> str:
    """Return the precision that the CPU actually uses if `precision` was requested."""
    # For int8 the property gives only the precision of the layers that are not quantised.
    hint = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
    return "int8" if precision == "int8" else hint
