"""Read HDF5 files of unknown origin: check every object first, then read, and run no code.

The metadata of every object in the file is checked first. Only hard links to groups and to plain
numeric data sets that are stored in one piece inside the file are allowed: no soft, external or
user-defined links, no object reached twice, no virtual data sets, no external storage, no chunks or
filters (so no compression bombs), and no references. Data of variable length are never read. A data
set's bytes must really be in the file, so nothing is allocated beyond the file's own size (external
storage: CVE-2026-1669). Keras's `model_config` is never read, so no code in it can run
(CVE-2025-9905).

The caller names the layers that it expects; this module reads them from Keras's layout of weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t

from cspine.core.errors import ArtifactError
from cspine.model.store.hashes import MAX_FILE_BYTES

MAX_OBJECTS = 20_000
# Limits the recursion; Keras's own files have fewer levels.
MAX_DEPTH = 8
MAX_ATTRIBUTES = 512
MAX_ATTRIBUTE_BYTES = 2**20
# A convolution's kernel has four dimensions.
MAX_DIMENSIONS = 6
SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass
class _Walk:
    """The state of a check: the file's size, addresses seen so far, and their data sets' bytes."""

    file_bytes: int
    seen: set[int] = field(default_factory=set)
    data_bytes: int = 0


@contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading after checking every object in it.

    Raises:
        ArtifactError: the file is missing, not HDF5, too large, damaged, or holds anything that
            this module's docstring rules out; the message names the object and the reason.
    """
    # Checked first, because the HDF5 library would search any other file for a signature.
    _check_outside(path)
    try:
        # Without locks, so that this works on a read-only file system.
        with h5py.File(path, "r", locking=False) as file:
            _check_group(file.id, "/", 0, _Walk(path.stat().st_size))
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError) as error:
        # h5py raises all of these for damaged files.
        raise ArtifactError(
            f"{path.name} must be an intact HDF5 file. Received: {error}"
        ) from error


def _check_outside(path: Path) -> None:
    """Check the file's size and signature before the HDF5 library opens it."""
    if not path.is_file():
        raise ArtifactError(f"A model file must exist. Received: {path.name}, which does not")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ArtifactError(f"{path.name} must be at most {MAX_FILE_BYTES} bytes. Received: {size}")
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise ArtifactError(f"{path.name} must be HDF5. Received: another kind of file")


def _refuse(name: str, rule: str, received: object) -> None:
    raise ArtifactError(f"In a model file, `{name}` must {rule}. Received: {received}")


def _check_group(group: h5g.GroupID, name: str, depth: int, walk: _Walk) -> None:
    """Check a group, its attributes and, link by link, all objects below it."""
    _check_object(group, name, walk)
    if depth > MAX_DEPTH:
        _refuse(name, f"be at most {MAX_DEPTH} groups deep", "a deeper one")
    # Checked before the names are listed, because the list itself could fill the memory.
    if group.get_num_objs() + len(walk.seen) > MAX_OBJECTS:
        _refuse(name, f"not bring the file to more than {MAX_OBJECTS} objects", "more")
    for raw in list(group):
        child = f"{name.rstrip('/')}/{raw.decode('utf8', 'replace')}"
        if group.links.get_info(raw).type != h5l.TYPE_HARD:
            _refuse(child, "be an object in this file", "a soft, external or user-defined link")
        found = h5o.open(group, raw)
        if isinstance(found, h5g.GroupID):
            _check_group(found, child, depth + 1, walk)
        elif isinstance(found, h5d.DatasetID):
            _check_dataset(found, child, walk)
        else:
            _refuse(child, "be a group or a data set", "another kind of object")


def _check_object(found: Any, name: str, walk: _Walk) -> None:
    """Refuse an object seen before (aliases and cycles of hard links), and check its attributes."""
    # By address, since two hard links to one object have different names.
    address = h5o.get_info(found).addr
    if address in walk.seen:
        _refuse(name, "be reached by only one link", "a second hard link")
    walk.seen.add(address)
    count = h5a.get_num_attrs(found)
    if count > MAX_ATTRIBUTES:
        _refuse(name, f"have at most {MAX_ATTRIBUTES} attributes", count)
    for index in range(count):
        _check_attribute(h5a.open(found, index=index), name)


def _check_attribute(attribute: h5a.AttrID, owner: str) -> None:
    name = f"{owner}@{attribute.name.decode('utf8', 'replace')}"
    kind = attribute.get_type().get_class()
    if kind not in (h5t.STRING, h5t.INTEGER, h5t.FLOAT):
        _refuse(name, "be text or a number", "a reference or a compound type")
    if _attribute_bytes(attribute) > MAX_ATTRIBUTE_BYTES:
        _refuse(name, f"hold at most {MAX_ATTRIBUTE_BYTES} bytes", _attribute_bytes(attribute))


def _attribute_bytes(attribute: h5a.AttrID) -> int:
    """Return the bytes of an attribute's fixed part; HDF5's own call fails if it is empty."""
    size = int(attribute.get_type().get_size())
    return int(math.prod(attribute.shape)) * size


def _check_dataset(data: h5d.DatasetID, name: str, walk: _Walk) -> None:
    """Check that a data set is plain numbers that really lie in this file."""
    _check_object(data, name, walk)
    plan = data.get_create_plist()
    if plan.get_nfilters():
        _refuse(name, "be stored without filters", "compression or another filter")
    # Compact data sets are smaller than 64 KiB and are stored in the object's header.
    if plan.get_layout() not in (h5d.CONTIGUOUS, h5d.COMPACT):
        _refuse(name, "be stored in one piece", "a virtual or chunked data set")
    if plan.get_external_count():
        _refuse(name, "be stored in this file", "external storage")
    kind = data.get_type()
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT) or kind.get_size() > 8:
        _refuse(name, "hold plain numbers", "another type")
    space = data.get_space()
    if (
        space.get_simple_extent_type() == h5s.NULL
        or space.get_simple_extent_ndims() > MAX_DIMENSIONS
    ):
        _refuse(name, f"have at most {MAX_DIMENSIONS} dimensions", "another shape")
    size = math.prod(space.get_simple_extent_dims()) * int(kind.get_size())
    # Data that was never written reads as zeros, whatever size is claimed.
    if size and data.get_storage_size() != size:
        _refuse(name, "have all its bytes in the file", f"{size} bytes claimed, but not stored")
    # The sizes are summed, since data sets that claim the same bytes would each pass the check.
    walk.data_bytes += size
    if walk.data_bytes > walk.file_bytes:
        _refuse(name, "fit into the file", "more bytes than the file has")


def read_text_attribute(group: h5py.Group, name: str, max_bytes: int) -> bytes:
    """Return the bytes of a fixed-length text attribute.

    Raises:
        ArtifactError: it is missing, of variable length, or longer than `max_bytes`.
    """
    shown = f"{group.name}@{name}"
    if not h5a.exists(group.id, name.encode()):
        _refuse(shown, "exist", "none")
    attribute = h5a.open(group.id, name.encode())
    kind = attribute.get_type()
    if kind.get_class() != h5t.STRING or kind.is_variable_str() or attribute.shape != ():
        _refuse(shown, "be one text of fixed length", "another type")
    if kind.get_size() > max_bytes:
        _refuse(shown, f"hold at most {max_bytes} bytes", kind.get_size())
    value = np.empty((), dtype=f"S{kind.get_size()}")
    attribute.read(value)
    return bytes(value[()])


def find_weights(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the data sets below a layer's group by the last part of their path, without reading.

    Keras stores `layer/some/path/kernel` (`kernel:0` in older files); in cspine, all weights of a
    layer differ in this last part. Keras's lists of names are attributes of variable length; they
    are not needed and never read.
    """
    found: dict[str, h5py.Dataset] = {}
    for name, one in group.items():
        if isinstance(one, h5py.Group):
            found.update(find_weights(one))
        else:
            # Older files keep TensorFlow's tensor suffix.
            found[name.removesuffix(":0")] = one
    return found


def read_layer(
    root: h5py.Group, layer: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Return the weights of one layer as float32 by name, after comparing all names and shapes.

    Raises:
        ArtifactError: the layer is missing, has other weights or shapes, or a value is not finite.
    """
    group = root.get(layer)
    if not isinstance(group, h5py.Group):
        raise ArtifactError(f"A model file must hold the layer `{layer}`. Received: none")
    found = find_weights(group)
    have = {name: one.shape for name, one in found.items()}
    if have != dict(shapes):
        raise ArtifactError(f"Layer `{layer}` must hold {dict(shapes)}. Received: {have}")
    arrays = {name: np.asarray(one[()], dtype=np.float32) for name, one in found.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ArtifactError(f"Layer `{layer}` must hold finite weights. Received: NaN or infinity")
    return arrays
