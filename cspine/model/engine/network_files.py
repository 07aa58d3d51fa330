"""Find the network of a version, f32 or int8: a file that the card lists, or made from the `.h5`.

A network is stored as OpenVINO's IR: an `.xml` of the graph and a `.bin` of the weights.
OpenVINO parses a file only if the card lists its hash, because a file's own records can be forged.
Otherwise the network is made from the `.h5`, which is checked in full.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino as ov

from cspine.core.errors import ArtifactError
from cspine.model.export.ir import INT8_NAME, IR_NAME, MappedNetwork, export_ir, map_ir
from cspine.model.store.card import CARD_NAME
from cspine.model.store.hashes import hash_file
from cspine.model.store.registry import ModelFiles, copy_files

logger = logging.getLogger(__name__)

PRECISIONS = ("f32", "bf16", "int8")


def choose_precision(card: Mapping[str, Any], asked: str) -> str:
    """Return the precision to use: the requested one, or for `auto` the card's choice.

    Raises:
        ArtifactError: the card names an unknown precision.
    """
    if asked != "auto":
        return asked
    section = card.get("precision", {})
    chosen = section.get("chosen", "f32") if isinstance(section, Mapping) else None
    if chosen not in PRECISIONS:
        raise ArtifactError(
            f"`precision.chosen` in the card must be {' or '.join(PRECISIONS)}. "
            f"Received: {str(chosen)[:40]!r}"
        )
    return str(chosen)


def find_int8(files: ModelFiles) -> MappedNetwork | None:
    """Return the int8 network, or None if it is not from this `.h5` or not as the card lists it."""
    return _find_listed(files, INT8_NAME)


def _find_listed(files: ModelFiles, name: str) -> MappedNetwork | None:
    """Return the network `name`, or None if a file's hash is not the one in the card."""
    path = files.folder / name
    xml, weights = _pair(path)
    return _map_own(files, path, (files.listed_hash(xml), files.listed_hash(weights)))


def _pair(path: Path) -> tuple[str, str]:
    """Return the names of an IR's two files."""
    return path.name, path.with_suffix(".bin").name


def _map_own(
    files: ModelFiles, path: Path, listed: tuple[str | None, str | None] | None = None
) -> MappedNetwork | None:
    """Return the network in `path`, or None if it is not from this `.h5` or has another input."""
    mapped = map_ir(path, files.h5_sha256, listed)
    if mapped is None or not _takes(mapped.network, files.card["image_size"]):
        return None
    return mapped


def _takes(network: ov.Model, side: int) -> bool:
    """Return whether the network's only input is a picture in bytes, (1, side, side, 3).

    This is checked before compilation, since a warm-up of 12,000 x 12,000 pixels takes gigabytes.
    """
    if len(network.inputs) != 1:
        return False
    only = network.input(0)
    is_picture = only.get_partial_shape() == ov.PartialShape([1, side, side, 3])
    return bool(is_picture and only.get_element_type() == ov.Type.u8)


def find_or_build_ir(files: ModelFiles) -> MappedNetwork:
    """Return the f32 network: from `best.xml` if the card lists it, else made from the `.h5`.

    Raises:
        ArtifactError: the `.h5` cannot be converted, or no temporary folder is writable.
    """
    return _find_listed(files, IR_NAME) or _build_ir(files)


def _build_ir(files: ModelFiles) -> MappedNetwork:
    """Make the network in a temporary folder, which is removed at the end."""
    logger.info("making %s from %s", IR_NAME, files.h5.name)
    try:
        with tempfile.TemporaryDirectory(prefix="cspine-", ignore_cleanup_errors=True) as folder:
            built = export_ir(files.h5, Path(folder))
            _keep_listed(files, built)
            # A mapped file stays readable after its name is removed; systems that cannot remove a
            # mapped file leave it in the folder.
            found = _find_listed(files, IR_NAME) or _map_own(files, built)
    except OSError as error:
        raise ArtifactError(
            f"{IR_NAME} must be made in a temporary folder that is writable: set TMPDIR to one, "
            f"or publish a card that lists {IR_NAME}. Received: {error.strerror or error}"
        ) from error
    if found is None:
        raise ArtifactError(
            f"`image_size` in {CARD_NAME} must be the input size of the network in "
            f"{files.h5.name}. Received: {files.card['image_size']}, or a network of another file"
        )
    return found


def _keep_listed(files: ModelFiles, built: Path) -> None:
    """Copy an IR that was just made beside its `.h5`, if the card lists the IR's hashes.

    An unlisted IR is not kept: only the card's hashes can tell it from a forgery, so the next start
    would have to make it again.
    """
    names = _pair(built)
    if any(hash_file(built.with_name(one)) != files.listed_hash(one) for one in names):
        return
    try:
        # The `.bin` first: a reader between the two copies finds a mismatch and makes its own IR.
        copy_files(built.parent, files.folder, [*reversed(names)])
    except OSError as error:
        logger.info("%s cannot be kept for the next start: %s", IR_NAME, error)
