"""The child process's part of the export: build an `.h5`'s network, trace it, write OpenVINO's IR.

This module imports Keras, which must use the OpenVINO backend; `__main__.py` sets that before.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import openvino as ov
from keras import tree
from openvino._offline_transformations import apply_moc_transformations

from cspine.model.export.ir import write_ir
from cspine.model.export.layout import lay_out_in_planes
from cspine.model.networks.classifier import Classifier
from cspine.model.store.hashes import hash_file
from cspine.model.store.keras_weights import load_classifier


def convert_h5(h5_path: Path, out_dir: Path) -> Path:
    """Write the IR of `h5_path` with all outputs into `out_dir`; return the `.xml`'s path.

    Raises:
        ArtifactError: the `.h5` is refused.
    """
    classifier, _ = load_classifier(h5_path)
    target = out_dir / f"{h5_path.stem}.xml"
    write_ir(trace_network(classifier), target, hash_file(h5_path))
    return target


def trace_network(classifier: Classifier) -> ov.Model:
    """Return the serving graph for OpenVINO: from u8 pixels (1, S, S, 3) to named outputs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traced.xml"
        classifier.serving.export(str(path), format="openvino", verbose=False)
        # Read from bytes, because the folder is removed before the network is used.
        network = ov.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    side = classifier.image_size
    # A fixed shape lets the compiler plan memory once, and no request can use another shape.
    network.reshape([1, side, side, 3])
    # `build` below also folds the weights' transposes, which would cost memory at each start.
    prepared = ov.preprocess.PrePostProcessor(network)
    # Bytes as input take a quarter of the memory that floats would take.
    prepared.input().tensor().set_element_type(ov.Type.u8)
    network = prepared.build()
    lay_out_in_planes(network)
    # Merge norms and padding into their convolutions here, so that no start has to do it.
    apply_moc_transformations(network, cf=True)
    outputs = dict(classifier.serving.output)
    # Keras flattens a dictionary by its sorted keys, so the outputs are in that order.
    for port, name in zip(network.outputs, tree.flatten({k: k for k in outputs}), strict=True):
        port.tensor.set_names({name})
    return network
