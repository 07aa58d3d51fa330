"""Sign the card of a model folder, after training and on the machine that has the private key.

A folder is signed only if its files have the hashes that its card lists. `card.py` verifies
signatures when a model is served; OpenSSL makes the keys.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ConfigError
from cspine.model.store.card import CARD_NAME, load_card, write_signature
from cspine.model.store.registry import VERSIONS_FOLDER, check_listed


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Return the Ed25519 private key in a PEM file.

    Raises:
        ConfigError: the file cannot be read, is encrypted, or holds no Ed25519 private key.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    # A key with a passphrase raises TypeError, since no passphrase is given.
    except (OSError, TypeError, ValueError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            "`key` must be a PEM file of an Ed25519 private key without a passphrase. "
            f"Received: {path}"
        )
    return key


def sign_models(models_dir: Path, key: Ed25519PrivateKey) -> str:
    """Sign the published model of `models_dir`, and return its version.

    The card's bytes are signed unchanged. The signature is written beside the card in `models_dir`,
    and in the kept version if that has the same card. The card is rewritten last, so that a running
    service takes the folder for newly published and reads it again.

    Raises:
        ArtifactError: there is no card, the card cannot be served, or a file that it lists is
            missing or has another SHA-256.
    """
    version = str(load_card(models_dir)["version"])
    text = (models_dir / CARD_NAME).read_bytes()
    kept = models_dir / VERSIONS_FOLDER / version
    is_kept = (kept / CARD_NAME).is_file() and (kept / CARD_NAME).read_bytes() == text
    folders = [kept, models_dir] if is_kept else [models_dir]
    for folder in folders:
        check_listed(folder)
    for folder in folders:
        write_signature(folder, text, key)
    with written_whole(models_dir / CARD_NAME) as part:
        part.write_bytes(text)
    return version
