"""The child's half of the export: build the network from an `.h5`, trace it, write its IR.

Imports Keras, which must be on the OpenVINO backend; `__main__.py` sets that before.
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
    """The serving graph as an OpenVINO network: u8 pixels (1, S, S, 3) in, named outputs out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traced.xml"
        classifier.serving.export(str(path), format="openvino", verbose=False)
        # From bytes in memory: the folder is gone before the network is used.
        network = ov.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    side = classifier.image_size
    # A fixed shape: the compiler lays memory out once, and no request can ask for another.
    network.reshape([1, side, side, 3])
    # Building it also folds the transposes of the weights, which would cost memory at each start.
    prepared = ov.preprocess.PrePostProcessor(network)
    # Bytes in: a quarter of the memory that floats would take on the way.
    prepared.input().tensor().set_element_type(ov.Type.u8)
    network = prepared.build()
    lay_out_in_planes(network)
    # Once here and not at every start: norms become part of their convolutions, padding too.
    apply_moc_transformations(network, cf=True)
    outputs = dict(classifier.serving.output)
    # Keras flattens a dictionary by its sorted keys, so the outputs come in that order.
    for port, name in zip(network.outputs, tree.flatten({k: k for k in outputs}), strict=True):
        port.tensor.set_names({name})
    return network
