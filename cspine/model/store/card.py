"""The model card `best.json` (schema version 1): read, check, write and optionally sign it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ArtifactError, quote
from cspine.core.labels import (
    CLASS_NAMES,
    DICOM_WINDOWS,
    DOMAINS,
    FIXED_WINDOW,
    HEADER_WINDOW,
    SYNTHETIC,
    UNKNOWN_DOMAIN,
)
from cspine.model.networks.architectures import ARCHITECTURES

SCHEMA_VERSION = 1
CARD_NAME = "best.json"
SIGNATURE_NAME = "best.json.sig"
# A card with an audit and intervals has tens of kilobytes.
MAX_CARD_BYTES = 8 * 2**20
# A signature is 64 bytes: 88 characters in base64, and a newline.
MAX_SIGNATURE_BYTES = 256
VIEWS = ("slice", "vertebra")
# The note that a model gets if it is trained on phantoms.
SYNTHETIC_NOTE = "demo model, trained on synthetic images"
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "schema_version": int,
    "version": str,
    "architecture": str,
    "image_size": int,
    "view": str,
    "map_head": bool,
    "decision": dict,
    "files": dict,
}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def parse_json(text: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object from UTF-8 bytes; NaN and infinities are refused, as they are not JSON.

    Raises:
        ArtifactError: the text is not a JSON object; the message calls it `what`.
    """
    try:
        # A few kilobytes of brackets are enough to cause a RecursionError.
        value = json.loads(text.decode("utf8"), parse_constant=_no_constant)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{what} must be JSON. Received: {error}") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{what} must be a JSON object. Received: {type(value).__name__}")
    return value


def check_facts(facts: Mapping[str, Any], what: str) -> None:
    """Check the facts that both a card and an `.h5` file state about a model.

    Raises:
        ArtifactError: a fact, such as architecture or image size, has a value that this version of
            cspine does not know.
    """
    rules = {
        "schema_version": facts.get("schema_version") == SCHEMA_VERSION,
        "architecture": facts.get("architecture") in tuple(ARCHITECTURES),
        "view": facts.get("view") in VIEWS,
        "map_head": isinstance(facts.get("map_head"), bool),
        "decision": isinstance(facts.get("decision"), dict),
        # Older files have no domain.
        "domain": facts.get("domain", SYNTHETIC) in DOMAINS,
        "revision": is_known_revision(facts),
        "dicom_window": facts.get("dicom_window", FIXED_WINDOW) in DICOM_WINDOWS,
    }
    for name, holds in rules.items():
        if not holds:
            raise ArtifactError(
                f"`{name}` of {what} must be a value that cspine knows. "
                f"Received: {quote(facts.get(name))}"
            )
    size = facts.get("image_size")
    least = ARCHITECTURES[facts["architecture"]].min_size
    # `True` is an int in Python, and would mean one pixel.
    if not isinstance(size, int) or isinstance(size, bool) or not least <= size <= 1024:
        raise ArtifactError(
            f"`image_size` of {what} must be from {least} to 1024. Received: {quote(size)}"
        )


def is_known_revision(facts: Mapping[str, Any]) -> bool:
    """Return whether the architecture of `facts` has their `revision`; older facts have none."""
    architecture = ARCHITECTURES.get(str(facts.get("architecture")))
    revision = facts.get("revision", 1)
    # `True` is an int in Python.
    is_number = isinstance(revision, int) and not isinstance(revision, bool)
    return architecture is not None and is_number and 1 <= revision <= architecture.revisions


def complete_card(
    card: Mapping[str, Any], facts: Mapping[str, Any], version: str
) -> dict[str, Any]:
    """Return the card with every fact of the model's `.h5`, after a check that they agree.

    Args:
        card: the card as read.
        facts: the facts that the `.h5` states.
        version: the version by the `.h5`'s hash.

    Raises:
        ArtifactError: architecture, image size, view, version, domain or DICOM window differ. A
            card without one of the last two is an older one and is accepted.
    """
    later = {
        "domain": find_domain(facts, card),
        "dicom_window": find_dicom_window(facts, card),
    }
    true = {**facts, **later, "version": version}
    for name in ("architecture", "image_size", "view", "version", *later):
        said = card.get(name, later.get(name))
        if said != true[name]:
            raise ArtifactError(
                f"`{name}` in {CARD_NAME} must be {true[name]}, as in best.h5. Received: "
                f"{str(said)[:40]!r}"
            )
    return {**card, **later}


def find_domain(facts: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """Return the kind of data a model learned from: `synthetic`, `painted`, `real` or `unknown`.

    `painted` means real scans with synthetic fractures. If `facts`, which are from the model's
    `.h5`, name a domain, that is returned. Older files name none: then the model counts as
    `synthetic` if the note in `facts` or the data layout in the card is that of phantoms, else as
    `unknown`.
    """
    if "domain" in facts:
        return str(facts["domain"])
    data = card.get("data")
    layout = data.get("layout") if isinstance(data, Mapping) else None
    # The note is in the `.h5`, so no card can hide that a model was trained on phantoms.
    is_phantom = facts.get("note") == SYNTHETIC_NOTE or layout == "phantom"
    return SYNTHETIC if is_phantom else UNKNOWN_DOMAIN


def find_dicom_window(facts: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """Return the rule by which a model's DICOM slices become grey, `fixed` or `header`.

    If `facts`, which are from the model's `.h5`, name it, that is returned. Older files name none.
    Then a model of synthetic images learned from PNG files, which have no header, so `fixed` suits
    it; any other, and one of the RSNA layout, may have learned from pictures by `header`.
    """
    if "dicom_window" in facts:
        return str(facts["dicom_window"])
    data = card.get("data")
    layout = data.get("layout") if isinstance(data, Mapping) else None
    is_pictures = find_domain(facts, card) == SYNTHETIC and layout != "rsna"
    return FIXED_WINDOW if is_pictures else HEADER_WINDOW


def _read_at_most(path: Path, most: int) -> bytes:
    """Return the first `most` bytes of a file, whatever its size.

    Raises:
        ArtifactError: the file is missing or cannot be read.
    """
    try:
        if not path.is_file():
            raise ArtifactError(
                f"A model folder must have {path.name}. Received: none in {path.parent.name}"
            )
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise ArtifactError(f"{path.name} must be readable. Received: {error.strerror}") from error


def load_card(folder: Path, public_key: bytes | None = None) -> dict[str, Any]:
    """Return the checked card of a model folder; with `public_key`, verify its signature first.

    `public_key` is a raw Ed25519 public key, 32 bytes.

    Raises:
        ArtifactError: the card is missing, unreadable, too large, not JSON, of another schema, or
            not signed by `public_key`, if that is given.
    """
    text = _read_at_most(folder / CARD_NAME, MAX_CARD_BYTES + 1)
    if len(text) > MAX_CARD_BYTES:
        raise ArtifactError(f"{CARD_NAME} must be at most {MAX_CARD_BYTES} bytes. Received: more")
    if public_key is not None:
        # Verified before parsing, so that an unsigned card is never parsed.
        _verify(text, folder / SIGNATURE_NAME, public_key)
    card = parse_json(text, CARD_NAME)
    for name, kind in _REQUIRED.items():
        if not isinstance(card.get(name), kind):
            raise ArtifactError(
                f"`{name}` must be in {CARD_NAME}. Received: {quote(card.get(name))}"
            )
    check_facts(card, CARD_NAME)
    names, precision = card.get("class_names", [*CLASS_NAMES]), card.get("precision", {})
    if names != [*CLASS_NAMES]:
        raise ArtifactError(f"`class_names` must be {CLASS_NAMES}. Received: {quote(names)}")
    if not isinstance(precision, dict):
        raise ArtifactError(f"`precision` must be an object. Received: {quote(precision)}")
    return card


def write_card(
    folder: Path, card: Mapping[str, Any], private_key: Ed25519PrivateKey | None = None
) -> Path:
    """Write `best.json` atomically; with a key, also write its signature to `best.json.sig`.

    Raises:
        ArtifactError: a value is not JSON (NaN and infinity included).
    """
    try:
        text = json.dumps(card, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"A card must hold JSON values only. Received: {error}") from error
    if private_key is not None:
        # The signature is written first, so that a new card is never seen without its signature.
        write_signature(folder, text, private_key)
    with written_whole(folder / CARD_NAME) as part:
        part.write_bytes(text)
    return folder / CARD_NAME


def write_signature(folder: Path, text: bytes, private_key: Ed25519PrivateKey) -> None:
    """Write the signature of a card's bytes (Ed25519, RFC 8032) in base64 to `best.json.sig`."""
    with written_whole(folder / SIGNATURE_NAME) as part:
        part.write_bytes(base64.b64encode(private_key.sign(text)) + b"\n")


def _verify(text: bytes, signature_path: Path, public_key: bytes) -> None:
    """Raise ArtifactError if the card's bytes are not signed by `public_key` (RFC 8032)."""
    encoded = _read_at_most(signature_path, MAX_SIGNATURE_BYTES)
    try:
        # Without validation, so that the newline at the end is accepted.
        signature = base64.b64decode(encoded, validate=False)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    # base64's own error is a ValueError.
    except (InvalidSignature, ValueError) as error:
        raise ArtifactError(
            f"{CARD_NAME} must be signed with the private key of the public key that is set. "
            "Received: another signature"
        ) from error
