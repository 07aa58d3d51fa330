"""Tensors of the Open Inference Protocol V2, in JSON or in the binary tensor data extension.

In the binary extension, the first `Inference-Header-Content-Length` bytes of the body are a JSON
header. The data of each tensor with `binary_data_size` follow the header, in order, little-endian
and row-major. Each element of a BYTES tensor is written as its length (uint32) and then its bytes.
In JSON, BYTES elements are base64 text.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from werkzeug.exceptions import BadRequest

from cspine.serve.schemas.requests import (
    MAX_ITEMS,
    MAX_JSON_MARKS,
    InlineImage,
    PixelArray,
    Source,
    decode_base64,
    parse_json_object,
)

HEADER = "Inference-Header-Content-Length"
# Name → datatype of each output, all of shape [N].
OUTPUTS = {"probability": "FP32", "prediction": "BYTES", "domain": "BYTES"}
MAX_ID = 256  # characters
# Pixels may come as nested lists of numbers, with one list for each pixel at the deepest level.
# 2 million numbers are enough for two slices of 512 × 512 × 3 and block the interpreter for half a
# second. More pixels must come as binary data.
MAX_MARKS = {**MAX_JSON_MARKS, b"[": 1_000_000, b",": 2_000_000}


@dataclass(frozen=True)
class InferRequest:
    """One inference request.

    Fields:
        id: the client's id of the request, which is sent back with the response.
        sources: the images of the only input, as files or pixels.
        outputs: name of each wanted output → whether the output is wanted as binary data.
    """

    id: str | None
    sources: tuple[Source, ...]
    outputs: dict[str, bool]


def read_infer_request(
    body: bytes, header_length: str | None, known: Collection[str]
) -> InferRequest:
    """Return the request in `body`.

    Args:
        body: the JSON header, and the binary tensor if there is one.
        header_length: the value of the HTTP header HEADER; None if all of `body` is JSON.
        known: the names of the outputs that exist.

    Raises:
        BadRequest: the body is not a valid request of the protocol.
        ImageError: an image in JSON is not base64.
    """
    length = _read_length(header_length, len(body))
    head = parse_json_object(body[:length], MAX_MARKS)
    inputs = head.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadRequest("`inputs` must hold one tensor, `image` or `pixels`.")
    # The body may be large, so the rest of it is a view, not a copy.
    tensor, rest = inputs[0], memoryview(body)[length:]
    shape = _read_shape(tensor)
    size = _parameters(tensor).get("binary_data_size")
    if (rest and size is None) or (size is not None and size != len(rest)):
        raise BadRequest(f"`binary_data_size` must be {len(rest)}. Received: {size!r:.40}")
    identity, outputs = _read_id(head), _read_outputs(head, known)
    read = {("image", "BYTES"): _read_images, ("pixels", "UINT8"): _read_pixels}.get(
        (str(tensor.get("name")), str(tensor.get("datatype")))
    )
    if read is None:
        raise BadRequest("The input must be `image` of BYTES or `pixels` of UINT8.")
    return InferRequest(identity, read(tensor, shape, None if size is None else rest), outputs)


def _read_length(text: str | None, total: int) -> int:
    if text is None:
        return total
    # `isdigit` also accepts `²`, and `int` raises an error for numbers of thousands of digits.
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) > total:
        raise BadRequest(f"`{HEADER}` must be at most the body's length. Received: {text:.40}")
    return int(text)


def _read_id(head: Mapping[str, Any]) -> str | None:
    value = head.get("id")
    # The id is sent back with the response, so it must be short.
    if value is not None and not (isinstance(value, str) and len(value) <= MAX_ID):
        raise BadRequest(f"`id` must be a string of at most {MAX_ID} characters.")
    return value


def _parameters(part: Mapping[str, Any]) -> dict[str, Any]:
    value = part.get("parameters", {})
    return value if isinstance(value, dict) else {}


def _read_shape(tensor: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 4:
        raise BadRequest("`shape` must be a list of 1 to 4 sizes.")
    if not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 65536 for n in shape):
        raise BadRequest("`shape` must hold sizes from 1 to 65536.")
    if shape[0] > MAX_ITEMS:
        raise BadRequest(f"A request must hold at most {MAX_ITEMS} images. Received: {shape[0]}")
    return tuple(shape)


def _read_outputs(head: Mapping[str, Any], known: Collection[str]) -> dict[str, bool]:
    """Return the wanted outputs, or all outputs if the request names none."""
    default = _parameters(head).get("binary_data_output") is True
    named = head.get("outputs")
    if not named:
        return dict.fromkeys(known, default)
    if not isinstance(named, list) or not all(isinstance(one, dict) for one in named):
        raise BadRequest("`outputs` must be a list of objects.")
    if not all(one.get("name") in known for one in named):
        raise BadRequest(f"An output must be one of {', '.join(known)}.")
    return {one["name"]: _parameters(one).get("binary_data", default) is True for one in named}


def _read_images(
    tensor: Mapping[str, Any], shape: tuple[int, ...], binary: memoryview | None
) -> tuple[Source, ...]:
    count = math.prod(shape)
    if binary is None:
        data = tensor.get("data")
        if not isinstance(data, list) or not all(isinstance(one, str) for one in data):
            raise BadRequest("`data` of BYTES must be a list of base64 strings.")
        images = tuple(decode_base64(text) for text in data)
    else:
        # A body may hold millions of empty elements. Reading stops at one element more than the
        # shape allows, which is enough to see that there are too many.
        images = tuple(itertools.islice(_split_bytes(binary), count + 1))
    if len(images) != count or len(shape) > 2:
        raise BadRequest(
            f"`image` must hold {count} elements, as its shape says, in 1 or 2 dimensions."
        )
    return tuple(map(InlineImage, images))


def _split_bytes(binary: memoryview) -> Iterator[bytes]:
    """Yield the elements of a BYTES tensor."""
    while binary:
        end = 4 + int.from_bytes(binary[:4], "little")
        if end > len(binary):
            raise BadRequest("A BYTES tensor must be whole. Received: a truncated one")
        yield bytes(binary[4:end])
        binary = binary[end:]


def _read_pixels(
    tensor: Mapping[str, Any], shape: tuple[int, ...], binary: memoryview | None
) -> tuple[Source, ...]:
    if len(shape) != 4 or shape[3] != 3:
        raise BadRequest(f"`pixels` must have the shape [N, H, W, 3]. Received: {list(shape)}")
    # `frombuffer` copies nothing: the array is a view of the body and must not be written to.
    data = _flatten(tensor.get("data")) if binary is None else binary
    values = np.frombuffer(data, np.uint8)
    if values.size != math.prod(shape):
        raise BadRequest(f"`pixels` must hold {math.prod(shape)} values, as its shape says.")
    return tuple(map(PixelArray, values.reshape(shape)))


def _flatten(data: object) -> bytes:
    """Return nested or flat JSON numbers from 0 to 255 as one byte per number.

    NumPy is not used here, because it gives every element as much memory as the longest element: a
    few strings of some kilobytes would take gigabytes.
    """
    values: list[Any] = data if isinstance(data, list) else [data]
    while values and isinstance(values[0], list):
        if set(map(type, values)) != {list} or len(set(map(len, values))) > 1:
            raise BadRequest("`data` must be a list of numbers, or lists of equal length.")
        values = list(itertools.chain.from_iterable(values))
    try:
        if set(map(type, values)) != {int}:
            raise ValueError
        return bytes(values)
    except ValueError:
        raise BadRequest("`data` of UINT8 must be whole numbers from 0 to 255.") from None


def write_infer_response(
    head: Mapping[str, Any],
    outputs: Mapping[str, list[float] | list[str]],
    binary: Mapping[str, bool],
) -> tuple[bytes, int | None]:
    """Return the response's body, and the length of its JSON part if binary tensors follow it.

    Args:
        head: the fields of the response that come before the outputs.
        outputs: name → FP32 numbers (NaN for a missing number) or BYTES words, (N,).
        binary: name of each wanted output → whether the output is written as binary data.
    """
    described, tail = [], b""
    for name, values in outputs.items():
        if name not in binary:
            continue
        entry: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(values)]}
        if binary[name]:
            encoded = _encode(OUTPUTS[name], values)
            entry["parameters"] = {"binary_data_size": len(encoded)}
            tail += encoded
        else:
            # Only NaN differs from itself. JSON has no NaN, so NaN is written as null.
            entry["data"] = [None if value != value else value for value in values]
        described.append(entry)
    text = json.dumps({**head, "outputs": described}).encode()
    return text + tail, len(text) if any(binary.values()) else None


def _encode(datatype: str, values: list[float] | list[str]) -> bytes:
    if datatype == "FP32":
        return np.asarray(values, "<f4").tobytes()
    words = [str(word).encode() for word in values]
    return b"".join(struct.pack("<I", len(word)) + word for word in words)
