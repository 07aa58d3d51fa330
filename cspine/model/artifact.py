"""`best.h5`, the source of truth: written so that plain Keras loads it, read so that no code runs.

Beside Keras's own groups, which hold one input and one output, a root group `cspine` holds a JSON
attribute (the facts and the decision part), the map head's weights and the in-distribution arrays.
Reading builds the network from this program's code by the architecture's name and takes numbers
only. Cards and versions are `card.py` and `versions.py`, offered here under one name.

Keras is imported only where a network is built or saved, so serving from IR never needs it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ArtifactError
from cspine.model.card import (
    SCHEMA_VERSION,
    check_facts,
    load_card,
    parse_json,
    write_card,
)
from cspine.model.h5_safety import open_h5, read_text_attribute
from cspine.model.versions import ModelFiles, hash_file, publish_version, resolve_version

if TYPE_CHECKING:
    from cspine.model.classifier import Classifier

__all__ = [
    "H5Contents", "ModelFiles", "hash_file", "load_card", "load_classifier", "publish_version",
    "read_h5", "resolve_version", "save_weights", "write_card",
]  # fmt: skip

GROUP = "cspine"
FACTS_ATTRIBUTE = "facts"
MAP_LAYER = "map_head"
# An HDF5 attribute ends at 64 KiB with its header.
MAX_FACTS_BYTES = 64_000
# The gate has three, the largest half a mebibyte: 64 centres of 2,048 units in float32.
MAX_ARRAYS = 16
MAX_ARRAYS_BYTES = 8 * 2**20
# Plain, so that no name can be mistaken for a path or an HDF5 link.
_ARRAY_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_FACTS = {"schema_version", "architecture", "image_size", "view", "map_head", "decision", "note"}
# Not in files of 0.1.0 and before; `find_domain` says what is made of those.
_LATER_FACTS = {"domain"}


@dataclass(frozen=True)
class H5Contents:
    """What an `.h5` file says of itself, without its weights.

    `facts` has architecture, image_size, view, map_head, decision, note and, but for older files,
    domain; `arrays` are numbers by name, such as the in-distribution centres (K, D) and gains
    (D,).
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def decision(self) -> dict[str, Any]:
        """The card's decision part: calibration, threshold, conformal sets, …."""
        return dict(self.facts["decision"])


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

    `decision` is JSON of at most 64,000 bytes, `arrays` are plain numbers, at most 8 MiB in all;
    `view` is `slice` or `vertebra`; `domain` what the model learned from, one of `labels.DOMAINS`;
    `note` is a sentence for people.

    Raises:
        ArtifactError: a part breaks these rules.
    """
    facts = {
        "schema_version": SCHEMA_VERSION,
        "architecture": classifier.name,
        "image_size": classifier.image_size,
        "view": view,
        "map_head": classifier.map_head,
        "decision": dict(decision),
        "note": note,
        "domain": domain,
    }
    # All checks before the first byte is written.
    text = _encode_facts(facts)
    _check_arrays({name: (a.dtype, a.shape) for name, a in arrays.items()})
    with written_whole(path) as part:
        _save_model(classifier, part)
        # Added to what Keras wrote: plain Keras reads its own groups and never looks at this one.
        with h5py.File(part, "a") as file:
            group = file.create_group(GROUP)
            # Fixed length: text of variable length lies in HDF5's global heap, which the reader
            # refuses.
            group.attrs[FACTS_ATTRIBUTE] = np.bytes_(text)
            stored = group.create_group("arrays")
            for name, array in arrays.items():
                stored.create_dataset(name, data=array)
            if classifier.map_head:
                _write_map_head(group.create_group(MAP_LAYER), classifier)
    return hash_file(path)


def _encode_facts(facts: dict[str, Any]) -> bytes:
    try:
        # Python would write NaN, which is no JSON and which `parse_json` refuses.
        text = json.dumps(facts, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"`decision` must be JSON. Received: {error}") from error
    if len(text) > MAX_FACTS_BYTES:
        raise ArtifactError(
            f"`decision` must be at most {MAX_FACTS_BYTES} bytes of JSON. Received: {len(text)}"
        )
    _check_facts(facts)
    return text


def _save_model(classifier: Classifier, path: Path) -> None:
    """`model.save`, without Keras's advice to use its other format: `.h5` is this project's."""
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


def _check_facts(facts: dict[str, Any]) -> None:
    check_facts(facts, "the model file")
    # Exactly these: what this version does not know it could not check.
    if set(facts) - _LATER_FACTS != _FACTS or not isinstance(facts["note"], str):
        raise ArtifactError(
            f"A model file's facts must be {sorted(_FACTS)}. Received: {sorted(facts)}"
        )


def _check_arrays(plans: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    """Check names, types and sizes of arrays that are to be written, or read."""
    total = 0
    for name, (dtype, shape) in plans.items():
        # Floats and whole numbers: reading other types makes Python objects.
        if not _ARRAY_NAME.fullmatch(name) or dtype.kind not in "fiu" or len(shape) > 2:
            raise ArtifactError(
                f"An array must have a plain name, numbers and at most 2 dimensions. Received: "
                f"{name!r}, {dtype}, {shape}"
            )
        # From the declared shape: the sum is known before anything is read.
        total += dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if len(plans) > MAX_ARRAYS or total > MAX_ARRAYS_BYTES:
        raise ArtifactError(
            f"A model file must hold at most {MAX_ARRAYS} arrays and {MAX_ARRAYS_BYTES} bytes of "
            f"them. Received: {len(plans)} and {total}"
        )


def read_h5(path: Path) -> H5Contents:
    """Read facts and arrays of a model file after walking all of it (see `h5_safety.py`).

    Raises:
        ArtifactError: the file is unsafe, damaged, or no model file of cspine; with the reason.
    """
    with open_h5(path) as file:
        return _read_contents(file)


def _read_contents(file: h5py.File) -> H5Contents:
    group = file.get(GROUP)
    if not isinstance(group, h5py.Group):
        raise ArtifactError(f"A model file must hold the group `{GROUP}`. Received: none")
    text = read_text_attribute(group, FACTS_ATTRIBUTE, MAX_FACTS_BYTES)
    facts = parse_json(text, "A model file's facts")
    _check_facts(facts)
    stored = group.get("arrays", {})
    if not all(isinstance(one, h5py.Dataset) for one in stored.values()):
        raise ArtifactError("`cspine/arrays` must hold data sets only. Received: a group")
    _check_arrays({name: (one.dtype, one.shape) for name, one in stored.items()})
    return H5Contents(facts, {name: np.asarray(one[()]) for name, one in stored.items()})


def load_classifier(path: Path) -> tuple[Classifier, H5Contents]:
    """Build the network that `path` names and give it the file's weights.

    The network comes from this program's code; the file's own description of it is not read.

    Raises:
        ArtifactError: as `read_h5`, or the weights are not those of the architecture.
    """
    from cspine.model.classifier import build_classifier
    from cspine.model.pretrained import assign_weights

    with open_h5(path) as file:
        contents = _read_contents(file)
        facts = contents.facts
        classifier = build_classifier(
            facts["architecture"], facts["image_size"], seed=None, map_head=facts["map_head"]
        )
        root = file.get("model_weights")
        if not isinstance(root, h5py.Group):
            raise ArtifactError("A model file must hold `model_weights`. Received: none")
        # By this program's own layers, so nothing that the file adds is ever looked at.
        for layer in classifier.model.layers:
            if layer.weights:
                assign_weights(layer, root, layer.name)
        # Outside Keras's groups, since plain Keras's model has no such layer.
        if facts["map_head"]:
            assign_weights(classifier.head_layers()[1], file[GROUP], MAP_LAYER)
    return classifier, contents
