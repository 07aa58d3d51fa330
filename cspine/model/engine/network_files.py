"""Find the network file of a version: f32 or int8, as the card lists it or made from the `.h5` now.

OpenVINO parses a file only if the card lists its hash, since anybody can write what a file says of
itself. Otherwise the network is made from the `.h5`, which is checked in full.
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
    """Return the precision to run in: the one asked for, or for `auto` what training proved.

    Raises:
        ArtifactError: the card names a precision that there is not.
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
    """The int8 network of these files, or None unless it is of this `.h5` and as the card lists."""
    return _find_listed(files, INT8_NAME)


def _find_listed(files: ModelFiles, name: str) -> MappedNetwork | None:
    """The network of that name, or None unless card and hashes agree on both its files."""
    path = files.folder / name
    xml, weights = _pair(path)
    return _map_own(files, path, (files.listed_hash(xml), files.listed_hash(weights)))


def _pair(path: Path) -> tuple[str, str]:
    """The names of an IR's two files."""
    return path.name, path.with_suffix(".bin").name


def _map_own(
    files: ModelFiles, path: Path, listed: tuple[str | None, str | None] | None = None
) -> MappedNetwork | None:
    """The network in `path`, or None unless it is of this `.h5` and takes the card's pictures."""
    mapped = map_ir(path, files.h5_sha256, listed)
    if mapped is None or not _takes(mapped.network, files.card["image_size"]):
        return None
    return mapped


def _takes(network: ov.Model, side: int) -> bool:
    """Whether its one input is a picture in bytes, (1, side, side, 3).

    Asked before it is compiled: a warm-up of 12,000 x 12,000 pixels takes gigabytes.
    """
    if len(network.inputs) != 1:
        return False
    only = network.input(0)
    is_picture = only.get_partial_shape() == ov.PartialShape([1, side, side, 3])
    return bool(is_picture and only.get_element_type() == ov.Type.u8)


def find_or_build_ir(files: ModelFiles) -> MappedNetwork:
    """The f32 network of these files: `best.xml` as the card lists it, else made from the `.h5`.

    Raises:
        ArtifactError: the `.h5` cannot be turned into a network, or there is no folder to do it in.
    """
    return _find_listed(files, IR_NAME) or _build_ir(files)


def _build_ir(files: ModelFiles) -> MappedNetwork:
    """The network made now, in a temporary folder that is gone at the end."""
    logger.info("making %s from %s", IR_NAME, files.h5.name)
    try:
        with tempfile.TemporaryDirectory(prefix="cspine-", ignore_cleanup_errors=True) as folder:
            built = export_ir(files.h5, Path(folder))
            _keep_listed(files, built)
            # What is mapped stays readable after its name is gone; elsewhere the file stays.
            found = _find_listed(files, IR_NAME) or _map_own(files, built)
    except OSError as error:
        raise ArtifactError(
            f"{IR_NAME} must be made in a temporary folder that can be written: set TMPDIR to one, "
            f"or publish a card that lists {IR_NAME}. Received: {error.strerror or error}"
        ) from error
    if found is None:
        raise ArtifactError(
            f"{files.h5.name} must give a network of its own, and `image_size` in {CARD_NAME} must "
            f"be that network's. Received: another, or {files.card['image_size']}"
        )
    return found


def _keep_listed(files: ModelFiles, built: Path) -> None:
    """Put an IR that was made now beside its `.h5`, if it is the very one that the card lists.

    Any other would have to be made again all the same: only the card can tell it from a forgery.
    """
    names = _pair(built)
    if any(hash_file(built.with_name(one)) != files.listed_hash(one) for one in names):
        return
    try:
        # The `.bin` first: a reader between the two finds a mismatch, and makes its own.
        copy_files(built.parent, files.folder, [*reversed(names)])
    except OSError as error:
        logger.info("%s cannot be kept for the next start: %s", IR_NAME, error)
