"""Check a network's inputs and outputs, and compile it by OpenVINO for this machine's CPU."""

from __future__ import annotations

import openvino as ov

from cspine.core.errors import ArtifactError


def check_network(network: ov.Model) -> None:
    """Refuse a network that does not take one picture of a fixed size and give our outputs.

    Raises:
        ArtifactError: names what must hold.
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
    """Compile for this CPU; `streams` images are computed at a time, on all cores together.

    Raises:
        ArtifactError: OpenVINO does not compile it.
    """
    options = {
        # Streams of one image each: on a CPU more images a second than batches give.
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(streams),
        # Always set: by default OpenVINO takes bf16 where the CPU has it.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    try:
        return ov.Core().compile_model(network, "CPU", options)
    except RuntimeError as error:
        raise ArtifactError(
            "The network must be one that OpenVINO compiles, with the memory there is. "
            f"Received: {str(error).splitlines()[0][:200]}"
        ) from error


def computed_in(compiled: ov.CompiledModel, precision: str) -> str:
    """Return what the CPU really computes in where `precision` was asked for."""
    # The hint is of the layers that are not rounded.
    hint = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
    return "int8" if precision == "int8" else hint
