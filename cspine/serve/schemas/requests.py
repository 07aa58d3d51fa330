"""Reader of prediction requests, whose body may be JSON, multipart or a raw image.

This module fetches nothing and decodes no image.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from flask import Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from cspine.core.errors import ImageError, quote
from cspine.core.serve_settings import ServeSettings
from cspine.imaging.image_files import is_image

MAX_ITEMS = 64
# For each of these bytes, the JSON parser may create a Python object many times larger than the
# byte. The limits are far above what any request needs and far below what would fill memory.
MAX_JSON_MARKS = {b"[": 1000, b"{": 1000, b",": 10_000, b'"': 10_000}
RAW_TYPES = ("application/octet-stream", "application/dicom", "image/png", "image/jpeg")
# What clients send if they are not told a type; curl's `--data-binary` sends the second.
UNTYPED = ("", "application/x-www-form-urlencoded")
FILE_FIELDS = ("file", "image")
JSON_FORMS = '{"url": "https://…"}, {"image": "<base64>"} or {"urls": ["https://…", …]}'
EXPLANATIONS = ("heatmap", "image")

_BASE64_GROWTH = 4 / 3
# The allowance for the JSON or the multipart form around the image.
_ENVELOPE_BYTES = 1024 * 1024


def max_body_bytes(settings: ServeSettings) -> int:
    """Return the size limit of a body: one image in base64, and the JSON or form around it."""
    return int(settings.max_bytes * _BASE64_GROWTH) + _ENVELOPE_BYTES


class BoundedRequest(Request):
    """A request that keeps uploads in memory, so that no part of an image is written to a disk."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        # Werkzeug's own method writes uploads over 500 KiB to a temporary file.
        return io.BytesIO()


@dataclass(frozen=True)
class InlineImage:
    """An image file that came with the request: its bytes and, from a form, its name."""

    data: bytes
    name: str | None = None


@dataclass(frozen=True)
class ImageUrl:
    """The URL of an image that is still to be fetched."""

    url: str


@dataclass(frozen=True, eq=False)
class PixelArray:
    """The pixels of an image, uint8 (H, W, 3)."""

    pixels: npt.NDArray[np.uint8]


Source = InlineImage | ImageUrl | PixelArray


@dataclass(frozen=True)
class PredictRequest:
    """A request for predictions.

    Fields:
        sources: the images, in order.
        is_batch: whether the images came as a list.
        explain: the wanted pictures, a subset of EXPLANATIONS.
    """

    sources: tuple[Source, ...]
    is_batch: bool
    explain: frozenset[str]


def read_predict_request(request: Request) -> PredictRequest:
    """Read the request for predictions.

    Raises:
        BadRequest: the body is malformed, or `explain` or the number of images is not allowed.
        UnsupportedMediaType: the `Content-Type` is not one of the accepted types.
        ImageError: `image` is not base64.
    """
    explain = _read_explain(request)
    if request.mimetype == "application/json":
        # With a cache, Werkzeug would hold the body for as long as the request lives.
        sources, is_batch = _read_json(request.get_data(cache=False))
    elif request.mimetype == "multipart/form-data":
        sources, is_batch = _read_files(request)
    else:
        sources, is_batch = (_read_raw(request),), False
    if not 1 <= len(sources) <= MAX_ITEMS:
        raise BadRequest(f"A request must hold 1 to {MAX_ITEMS} images. Received: {len(sources)}")
    return PredictRequest(sources, is_batch, explain)


def _read_raw(request: Request) -> InlineImage:
    """Return the body of a request of another type as an image.

    A body without a type, or with the one that curl sends by default, is read if it is an image by
    its content. It is never read as JSON: a web page may send such requests to any address, and
    could otherwise make a user's service fetch URLs.
    """
    kind = request.mimetype
    is_typed = kind in RAW_TYPES
    data = request.get_data(cache=False) if is_typed or kind in UNTYPED else b""
    if is_typed or is_image(data):
        return InlineImage(data)
    known = ", ".join(("application/json", "multipart/form-data", *RAW_TYPES))
    raise UnsupportedMediaType(
        f"`Content-Type` must be one of {known}. Received: {kind[:100] or 'none'}, and a body that "
        "is no image. Send JSON with `Content-Type: application/json`"
        if kind in UNTYPED
        else f"`Content-Type` must be one of {known}. Received: {kind[:100]}"
    )


def _read_explain(request: Request) -> frozenset[str]:
    names = frozenset(name for name in request.args.get("explain", "").split(",") if name)
    if not names <= set(EXPLANATIONS):
        known = " or ".join(f"`{name}`" for name in EXPLANATIONS)
        raise BadRequest(f"`explain` must be {known}. Received: another word")
    return names


def parse_json_object(
    body: bytes, max_marks: Mapping[bytes, int] = MAX_JSON_MARKS
) -> dict[str, Any]:
    """Return the JSON object in `body`; refuse a body with too many values before parsing it.

    Args:
        body: the JSON text.
        max_marks: how often each byte may occur in `body`.

    Raises:
        BadRequest: `body` is not a JSON object, or has too many values.
    """
    for mark, most in max_marks.items():
        if body.count(mark) > most:
            raise BadRequest(f"JSON must have at most {most} characters `{mark.decode()}`.")
    try:
        value = json.loads(body)
    # A thousand brackets pass the check above, but may be nested too deeply for the parser.
    except (ValueError, RecursionError):
        raise BadRequest("The body must be JSON. Received: other text") from None
    if not isinstance(value, dict):
        raise BadRequest(f"JSON must be an object: {JSON_FORMS}. Received: another value")
    return value


def _read_json(body: bytes) -> tuple[tuple[Source, ...], bool]:
    value = parse_json_object(body)
    if len(value) != 1 or not value.keys() <= {"url", "image", "urls"}:
        raise BadRequest(f"JSON must be {JSON_FORMS}. Received: other keys")
    [(key, content)] = value.items()
    if key == "urls":
        if not isinstance(content, list) or not all(isinstance(url, str) for url in content):
            raise BadRequest("`urls` must be a list of strings. Received: something else")
        return tuple(ImageUrl(url) for url in content), True
    if not isinstance(content, str):
        raise BadRequest(f"`{key}` must be a string. Received: something else")
    return ((ImageUrl(content),) if key == "url" else (InlineImage(decode_base64(content)),)), False


def decode_base64(text: str) -> bytes:
    """Return the bytes of base64 text, or of a `data:` URL that holds base64 text.

    Raises:
        ImageError: the text is neither of these.
    """
    # Encoders break lines (RFC 2045 section 6.8), and people copy blanks.
    text = "".join(text.split())
    # The media type of a `data:` URL (RFC 2397) is ignored: the format is found from the bytes.
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    try:
        # Without `validate`, other characters would be skipped and the rest decoded to noise.
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise ImageError("`image` must be base64. Received: text that is not") from None


def _read_files(request: Request) -> tuple[tuple[Source, ...], bool]:
    if "boundary" not in request.mimetype_params:
        raise BadRequest(
            "The `Content-Type` of a form must name its boundary. Received: none. Let the client "
            "set this header itself"
        )
    files = [file for name in FILE_FIELDS for file in request.files.getlist(name)]
    if files:
        return tuple(InlineImage(file.read(), file.filename) for file in files), len(files) > 1
    if any(name in request.form for name in FILE_FIELDS):
        raise BadRequest(
            "The form field `file` must hold a file. Received: text. With curl, write "
            "`-F file=@PATH`, with the `@`"
        )
    # Names are quoted, since they may hold any character.
    named = ", ".join(quote(name) for name in [*request.files, *request.form][:5])
    raise BadRequest(f"The form must have a file field `file`. Received: {named or 'no field'}")
