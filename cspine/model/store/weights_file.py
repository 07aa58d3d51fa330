"""Read `best.h5`, the source of truth, so that no code runs. Imports no Keras.

Beside Keras's own groups, which hold one input and one output, a root group `cspine` holds a JSON
attribute (the facts and the decision part), the map head's weights and the in-distribution arrays.
`keras_weights.py` writes it, and builds the network from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cspine.core.errors import ArtifactError
from cspine.model.safe_hdf5 import open_h5, read_text_attribute
from cspine.model.store.card import check_facts, parse_json

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


def check_model_facts(facts: dict[str, Any]) -> None:
    """Check the facts of a model file, read or to be written.

    Raises:
        ArtifactError: a fact is missing, unknown or not one that this version serves.
    """
    check_facts(facts, "the model file")
    # Exactly these: what this version does not know it could not check.
    if set(facts) - _LATER_FACTS != _FACTS or not isinstance(facts["note"], str):
        raise ArtifactError(
            f"A model file's facts must be {sorted(_FACTS)}. Received: {sorted(facts)}"
        )


def check_arrays(plans: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    """Check names, types and sizes of arrays, read or to be written.

    Raises:
        ArtifactError: a name is not plain, a type holds no numbers, or there is too much.
    """
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
    """Read facts and arrays of a model file after walking all of it (see `safe_hdf5.py`).

    Raises:
        ArtifactError: the file is unsafe, damaged, or no model file of cspine; with the reason.
    """
    with open_h5(path) as file:
        return read_contents(file)


def read_contents(file: h5py.File) -> H5Contents:
    """Read facts and arrays of a model file that `open_h5` has walked; otherwise as `read_h5`."""
    group = file.get(GROUP)
    if not isinstance(group, h5py.Group):
        raise ArtifactError(f"A model file must hold the group `{GROUP}`. Received: none")
    text = read_text_attribute(group, FACTS_ATTRIBUTE, MAX_FACTS_BYTES)
    facts = parse_json(text, "A model file's facts")
    check_model_facts(facts)
    stored = group.get("arrays", {})
    if not all(isinstance(one, h5py.Dataset) for one in stored.values()):
        raise ArtifactError("`cspine/arrays` must hold data sets only. Received: a group")
    check_arrays({name: (one.dtype, one.shape) for name, one in stored.items()})
    return H5Contents(facts, {name: np.asarray(one[()]) for name, one in stored.items()})
