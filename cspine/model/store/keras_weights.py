"""Write `best.h5` so that plain Keras loads it, and build the network from its weights.

This program's code builds the network by the architecture's name; the file's own description of the
network is not read. `weights_file.py` reads what the file holds besides the weights.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ArtifactError
from cspine.core.labels import FIXED_WINDOW
from cspine.model.networks.classifier import Classifier, build_classifier
from cspine.model.networks.pretrained import assign_weights
from cspine.model.safe_hdf5 import open_h5
from cspine.model.store.card import SCHEMA_VERSION
from cspine.model.store.hashes import hash_file
from cspine.model.store.weights_file import (
    FACTS_ATTRIBUTE,
    GROUP,
    MAP_LAYER,
    MAX_FACTS_BYTES,
    H5Contents,
    check_arrays,
    check_model_facts,
    read_contents,
)


def save_weights(
    classifier: Classifier,
    path: Path,
    decision: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    view: str,
    domain: str,
    note: str = "",
) -> str:
    """Write `path` (an `.h5`) atomically and return its SHA-256 in hex.

    `decision` is JSON of at most 64,000 bytes; `arrays` are plain numbers, at most 8 MiB in total;
    `view` is `slice` or `vertebra`; `domain` is the kind of training data, one of `labels.DOMAINS`;
    `note` is a sentence for users.

    Raises:
        ArtifactError: an argument breaks these rules.
    """
    facts = {
        "schema_version": SCHEMA_VERSION,
        "architecture": classifier.name,
        "revision": classifier.revision,
        "image_size": classifier.image_size,
        "view": view,
        "map_head": classifier.map_head,
        "decision": dict(decision),
        "note": note,
        "domain": domain,
        # The only rule by which training makes pictures from DICOM files.
        "dicom_window": FIXED_WINDOW,
    }
    # All checks run before the first byte is written.
    text = _encode_facts(facts)
    check_arrays({name: (a.dtype, a.shape) for name, a in arrays.items()})
    with written_whole(path) as part:
        _save_model(classifier, part)
        # Plain Keras reads only its own groups and ignores this one.
        with h5py.File(part, "a") as file:
            group = file.create_group(GROUP)
            # The text has a fixed length, since the reader refuses text of variable length.
            group.attrs[FACTS_ATTRIBUTE] = np.bytes_(text)
            stored = group.create_group("arrays")
            for name, array in arrays.items():
                stored.create_dataset(name, data=array)
            if classifier.map_head:
                _write_map_head(group.create_group(MAP_LAYER), classifier)
    return hash_file(path)


def _encode_facts(facts: dict[str, Any]) -> bytes:
    try:
        # By default Python would write NaN, which is not JSON and which `parse_json` refuses.
        text = json.dumps(facts, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"`decision` must be JSON. Received: {error}") from error
    if len(text) > MAX_FACTS_BYTES:
        raise ArtifactError(
            f"`decision` must be at most {MAX_FACTS_BYTES} bytes of JSON. Received: {len(text)}"
        )
    check_model_facts(facts)
    return text


def _save_model(classifier: Classifier, path: Path) -> None:
    """Save the model as `.h5`, and suppress Keras's advice to use its newer format."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        classifier.model.save(path, include_optimizer=False)
    finally:
        absl.setLevel(level)


def _write_map_head(group: h5py.Group, classifier: Classifier) -> None:
    for variable in classifier.head_layers()[1].weights:
        group.create_dataset(variable.name, data=np.asarray(variable))


def load_classifier(path: Path) -> tuple[Classifier, H5Contents]:
    """Build the network whose architecture `path` names, and give it the file's weights.

    The network is built by this program's code; the file's own description of it is not read.

    Raises:
        ArtifactError: as in `read_h5`, or the weights do not fit the architecture.
    """
    with open_h5(path) as file:
        contents = read_contents(file)
        facts = contents.facts
        classifier = build_classifier(
            facts["architecture"],
            facts["image_size"],
            seed=None,
            map_head=facts["map_head"],
            revision=facts.get("revision", 1),
        )
        root = file.get("model_weights")
        if not isinstance(root, h5py.Group):
            raise ArtifactError("A model file must hold `model_weights`. Received: none")
        # Only this program's layers are looked up, so other objects in the file are never read.
        for layer in classifier.model.layers:
            if layer.weights:
                assign_weights(layer, root, layer.name)
        # The map head is stored outside Keras's groups, since `model` has no such layer.
        if facts["map_head"]:
            assign_weights(classifier.head_layers()[1], file[GROUP], MAP_LAYER)
    return classifier, contents
