"""The command `python -m cspine sign`: sign a card, so that a service can verify the signer."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def register(subparsers: Any) -> None:
    """Add the command `sign`."""
    parser = subparsers.add_parser(
        "sign",
        description="Sign best.json of a model folder, and write the signature to best.json.sig. "
        "A service with CSPINE_CARD_KEY set to the public key serves only cards signed with this "
        "private key. Make the keys with "
        "`openssl genpkey -algorithm ed25519 -out card-key.pem` and "
        "`openssl pkey -in card-key.pem -pubout -out card-key.pub.pem`.",
    )
    parser.add_argument(
        "models", type=Path, nargs="?", default=Path("models"), help="the model folder"
    )
    parser.add_argument("--key", type=Path, required=True, help="the private key, a PEM file")
    parser.set_defaults(run=run_sign)


def run_sign(given: argparse.Namespace) -> int:
    """Sign the card and log which version was signed."""
    from cspine.model.store.signing import read_private_key, sign_models

    version = sign_models(given.models, read_private_key(given.key))
    logger.info("Signed version %s in %s.", version, given.models)
    return 0
