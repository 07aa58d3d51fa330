"""Read the facts and arrays of `best.h5`, the source of truth, without importing Keras.

No code in the file can run. Besides Keras's own groups, which hold a model with one input and one
output, a root group `cspine` holds a JSON attribute (the facts and the decision part), the map
head's weights and the in-distribution arrays. `keras_weights.py` writes the file and builds the
network from it.
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
# An HDF5 attribute with its header has at most 64 KiB.
MAX_FACTS_BYTES = 64_000
# The out-of-distribution check has three arrays, the largest of half a mebibyte: 64 centres of
# 2,048 units in float32.
MAX_ARRAYS = 16
MAX_ARRAYS_BYTES = 8 * 2**20
# Names are plain, so that none can be mistaken for a path or an HDF5 link.
_ARRAY_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_FACTS = {"schema_version", "architecture", "image_size", "view", "map_head", "decision", "note"}
# Missing in older files: `complete_card` finds their domain and window, and their revision is 1.
_LATER_FACTS = {"domain", "revision", "dicom_window"}


@dataclass(frozen=True)
class H5Contents:
    """The facts and arrays of an `.h5` file, without its weights.

    `facts` has architecture, image_size, view, map_head, decision, note and, except in older files,
    domain, revision and dicom_window; `arrays` are numbers by name, such as the in-distribution
    centres (K, D) and gains (D,).
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def decision(self) -> dict[str, Any]:
        """The card's decision part: calibration, threshold, conformal sets, …."""
        return dict(self.facts["decision"])


def check_model_facts(facts: dict[str, Any]) -> None:
    """Check the facts of a model file, after reading or before writing them.

    Raises:
        ArtifactError: a fact is missing, unknown, or has a value that this version cannot serve.
    """
    check_facts(facts, "the model file")
    # Unknown facts are refused, because this version could not check them.
    if set(facts) - _LATER_FACTS != _FACTS or not isinstance(facts["note"], str):
        raise ArtifactError(
            f"A model file's facts must be {sorted(_FACTS)}. Received: {sorted(facts)}"
        )


def check_arrays(plans: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    """Check names, types and sizes of arrays, before reading or writing them.

    Raises:
        ArtifactError: a name is not plain, a type is not numeric, or the arrays are too many or
            too large.
    """
    total = 0
    for name, (dtype, shape) in plans.items():
        # Only floats and integers, since reading other types creates Python objects.
        if not _ARRAY_NAME.fullmatch(name) or dtype.kind not in "fiu" or len(shape) > 2:
            raise ArtifactError(
                f"An array must have a plain name, numbers and at most 2 dimensions. Received: "
                f"{name!r}, {dtype}, {shape}"
            )
        # The declared shapes give the sum before anything is read.
        total += dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if len(plans) > MAX_ARRAYS or total > MAX_ARRAYS_BYTES:
        raise ArtifactError(
            f"A model file must hold at most {MAX_ARRAYS} arrays and {MAX_ARRAYS_BYTES} bytes of "
            f"them. Received: {len(plans)} and {total}"
        )


def read_h5(path: Path) -> H5Contents:
    """Read facts and arrays of a model file after checking all its objects (see `safe_hdf5.py`).

    Raises:
        ArtifactError: the file is unsafe, damaged, or no model file of cspine; the message says
            why.
    """
    with open_h5(path) as file:
        return read_contents(file)


def read_contents(file: h5py.File) -> H5Contents:
    """Read facts and arrays of a model file that `open_h5` has checked; see `read_h5`."""
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
