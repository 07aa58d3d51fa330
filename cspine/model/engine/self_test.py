"""Compare the logits of a loaded engine with those that its card stores.

The card has synthetic images (grey PNGs in base64) and the trained network's logits for them. The
test detects a wrong, mixed or damaged network. It does not measure how good a precision is, so bf16
and int8 have wide bounds.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from cspine.core.errors import ArtifactError
from cspine.model.engine.engine import Engine

# A card may come from an untrusted source, so a long self-test must not delay a start.
MAX_INPUTS = 16
# Allowed error of a bf16 or int8 network: this floor in logits plus this share of the logit.
ROUNDED_SHARE, ROUNDED_FLOOR = 0.25, 0.5
# Raised for parts that are missing, have the wrong type or are no PNG (Pillow: SyntaxError).
_MALFORMED = (KeyError, TypeError, ValueError, ArithmeticError, OSError, SyntaxError)


def check_self_test(engine: Engine, card: Mapping[str, Any]) -> None:
    """Run the card's self-test, if it has one, on a warmed engine.

    Raises:
        ArtifactError: the self-test is malformed, or the error of a logit is above its tolerance.
    """
    test = card.get("self_test")
    if test is None:
        return
    try:
        images = np.stack([_decode(one, engine.image_size) for one in test["inputs"][:MAX_INPUTS]])
        expected = np.asarray(test["expected"], dtype=np.float64)
        allowed = np.full(expected.shape, float(test["tolerance"]))
    except (*_MALFORMED, Image.DecompressionBombError) as error:
        # The message is cut, because NumPy quotes all of a text that is not a number, even
        # megabytes.
        raise ArtifactError(
            f"`self_test` of a card must be well-formed. Received: {str(error)[:200]}"
        ) from error
    if expected.shape != (len(images),):
        raise ArtifactError(
            "`self_test` must have one logit per image. Received: logits of shape "
            f"{expected.shape} for {len(images)} images"
        )
    if engine.precision != "f32":
        allowed = np.maximum(allowed, ROUNDED_FLOOR + ROUNDED_SHARE * np.abs(expected))
    logits = engine.infer(images).logit
    # This comparison also fails for NaN.
    if not np.all(np.abs(logits - expected) <= allowed):
        raise ArtifactError(
            f"The network must give the logits of its card's self-test, {expected.tolist()}. "
            f"Received: {logits.tolist()}"
        )


def _decode(text: str, side: int) -> np.ndarray:
    """Decode a base64 PNG to uint8 (side, side), and check its size before reading its pixels."""
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
        if image.size != (side, side):
            raise ValueError(
                f"an image of size {image.size} for a network with an input side of {side}"
            )
        return np.asarray(image.convert("L"))
