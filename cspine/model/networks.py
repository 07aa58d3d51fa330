"""Which network file of a version runs: f32 or int8, as listed or made from the `.h5` now.

A file that does not belong to the `.h5` is never run. It compiles nothing; `engine.py` does.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cspine.core.errors import ArtifactError
from cspine.model.export import INT8_NAME, IR_NAME, MappedNetwork, export_ir, map_ir
from cspine.model.versions import ModelFiles

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
    """The network of that name, or None unless the card lists its files and the `.h5` is its own.

    The `.xml` is compared before it is parsed; the `.bin` by the hash of what was mapped.
    """
    path = files.folder / name
    mapped = map_ir(path, files.h5_sha256) if files.matches_card(path) else None
    if mapped is None or files.listed_hash(path.with_suffix(".bin").name) != mapped.weights_sha256:
        return None
    return mapped


def find_or_build_ir(files: ModelFiles) -> MappedNetwork:
    """The f32 network of these files, from `best.xml` or made from the `.h5` now.

    Made beside the `.h5`, or in a temporary folder where that cannot be written. Where the card is
    signed, an IR that the card does not list is not trusted and is made anew.

    Raises:
        ArtifactError: the `.h5` cannot be turned into a network.
    """
    if files.signed:
        found = _find_listed(files, IR_NAME)
    else:
        found = map_ir(files.folder / IR_NAME, files.h5_sha256)
    if found is not None:
        return found
    logger.info("making %s from %s", IR_NAME, files.h5.name)
    try:
        if files.signed:
            raise PermissionError
        built = export_ir(files.h5, files.folder)
    except PermissionError:
        with tempfile.TemporaryDirectory(prefix="cspine-", ignore_cleanup_errors=True) as folder:
            # What is mapped stays readable after its name is gone; elsewhere the file stays.
            found = map_ir(export_ir(files.h5, Path(folder)), files.h5_sha256)
    else:
        found = map_ir(built, files.h5_sha256)
    if found is None:
        raise ArtifactError(f"{files.h5.name} must give a network of its own. Received: another")
    return found
