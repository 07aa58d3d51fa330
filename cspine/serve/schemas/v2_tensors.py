"""Tensors of the Open Inference Protocol V2: JSON, and the binary tensor data extension.

Binary: the JSON header is the first `Inference-Header-Content-Length` bytes of the body; each
tensor with `binary_data_size` follows, in order, little-endian and row-major; an element of BYTES
is its length as uint32 and then its bytes. In JSON, BYTES elements are base64 text.
Knows no model.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from werkzeug.exceptions import BadRequest

from cspine.serve.schemas.requests import (
    MAX_ITEMS,
    MAX_JSON_MARKS,
    decode_base64,
    parse_json_object,
)

HEADER = "Inference-Header-Content-Length"
MAX_ID = 256  # characters
# Pixels may come as lists of numbers, nested down to one list for each pixel.
# 2 million numbers are two slices of 512 × 512 × 3, and half a second in which the interpreter does
# nothing else; more pixels come as binary data.
MAX_MARKS = {**MAX_JSON_MARKS, b"[": 1_000_000, b",": 2_000_000}


@dataclass(frozen=True)
class InferRequest:
    """One request: its id, its one input and which outputs are wanted, binary or not.

    `images` holds files, or `pixels` uint8 (N, H, W, 3); the other is None.
    `outputs` maps each wanted name to whether it is wanted in binary.
    """

    id: str | None
    images: tuple[bytes, ...] | None
    pixels: npt.NDArray[np.uint8] | None
    outputs: dict[str, bool]


def read_infer_request(
    body: bytes, header_length: str | None, known: tuple[str, ...]
) -> InferRequest:
    """Return the request in `body`; `known` are the names of the outputs there are.

    Raises:
        BadRequest: the body is not one request of the protocol.
        ImageError: an image in JSON is no base64.
    """
    length = _read_length(header_length, len(body))
    head = parse_json_object(body[:length], MAX_MARKS)
    inputs = head.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadRequest("`inputs` must hold one tensor, `image` or `pixels`.")
    # A view: the body may be large.
    tensor, binary = inputs[0], memoryview(body)[length:]
    shape = _read_shape(tensor)
    size = _parameters(tensor).get("binary_data_size")
    if (binary and size is None) or (size is not None and size != len(binary)):
        raise BadRequest(f"`binary_data_size` must be {len(binary)}. Received: {size!r:.40}")
    identity = _read_id(head)
    outputs = _read_outputs(head, known)
    match tensor.get("name"), tensor.get("datatype"):
        case "image", "BYTES":
            images = _read_images(tensor, shape, binary if size is not None else None)
            return InferRequest(identity, images, None, outputs)
        case "pixels", "UINT8":
            pixels = _read_pixels(tensor, shape, binary if size is not None else None)
            return InferRequest(identity, None, pixels, outputs)
    raise BadRequest("The input must be `image` of BYTES or `pixels` of UINT8.")


def _read_length(text: str | None, total: int) -> int:
    if text is None:
        return total
    # `isdigit` alone lets `²` through, and `int` refuses numbers of thousands of digits.
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) > total:
        raise BadRequest(f"`{HEADER}` must be at most the body's length. Received: {text:.40}")
    return int(text)


def _read_id(head: Mapping[str, Any]) -> str | None:
    value = head.get("id")
    # It comes back with the answer, so it must be short.
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


def _read_outputs(head: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, bool]:
    """Return the wanted outputs; all of them where none is named."""
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
) -> tuple[bytes, ...]:
    count = math.prod(shape)
    if binary is None:
        data = tensor.get("data")
        if not isinstance(data, list) or not all(isinstance(one, str) for one in data):
            raise BadRequest("`data` of BYTES must be a list of base64 strings.")
        images = tuple(decode_base64(text) for text in data)
    else:
        # One more tells that there are too many; a body may hold millions of empty ones.
        images = tuple(itertools.islice(_split_bytes(binary), count + 1))
    if len(images) != count or len(shape) > 2:
        raise BadRequest(f"`image` must hold {count} elements by its shape. Received: others")
    return images


def _split_bytes(binary: memoryview) -> Iterator[bytes]:
    """Yield the elements of a BYTES tensor."""
    position = 0
    while position < len(binary):
        if position + 4 > len(binary):
            raise BadRequest("A BYTES tensor must be whole. Received: a truncated one")
        (length,) = struct.unpack_from("<I", binary, position)
        position += 4
        if position + length > len(binary):
            raise BadRequest("A BYTES tensor must be whole. Received: a truncated one")
        yield bytes(binary[position : position + length])
        position += length


def _read_pixels(
    tensor: Mapping[str, Any], shape: tuple[int, ...], binary: memoryview | None
) -> npt.NDArray[np.uint8]:
    if len(shape) != 4 or shape[3] != 3:
        raise BadRequest(f"`pixels` must have the shape [N, H, W, 3]. Received: {list(shape)}")
    # `frombuffer` copies nothing: its array is a view of the body, not to be written to.
    data = _flatten(tensor.get("data")) if binary is None else binary
    values = np.frombuffer(data, np.uint8)
    if values.size != math.prod(shape):
        raise BadRequest(f"`pixels` must hold {math.prod(shape)} values by its shape.")
    return values.reshape(shape)


def _flatten(data: object) -> bytes:
    """Return nested or flat JSON numbers from 0 to 255, a byte each.

    Not by NumPy, which makes room for the longest of them in each place: strings of some kilobytes
    would take gigabytes.
    """
    values: list[Any] = data if isinstance(data, list) else [data]
    while values and isinstance(values[0], list):
        if set(map(type, values)) != {list} or len(set(map(len, values))) > 1:
            raise BadRequest("`data` must be a regular list of numbers.")
        values = list(itertools.chain.from_iterable(values))
    try:
        if set(map(type, values)) != {int}:
            raise ValueError
        return bytes(values)
    except ValueError:
        raise BadRequest("`data` of UINT8 must be whole numbers from 0 to 255.") from None


@dataclass(frozen=True)
class Output:
    """One output tensor of N elements: FP32 numbers (NaN for none) or BYTES words."""

    name: str
    datatype: str
    values: list[float] | list[str]


def write_infer_response(
    head: Mapping[str, Any], outputs: list[Output], binary: Mapping[str, bool]
) -> tuple[bytes, int | None]:
    """Return the body, and the length of its JSON part where binary tensors follow it."""
    described, tail = [], b""
    for output in outputs:
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": [len(output.values)],
        }
        if binary[output.name]:
            encoded = _encode(output)
            entry["parameters"] = {"binary_data_size": len(encoded)}
            tail += encoded
        else:
            # NaN is what differs from itself; JSON has no number for it.
            entry["data"] = [None if value != value else value for value in output.values]
        described.append(entry)
    text = json.dumps({**head, "outputs": described}).encode()
    return text + tail, len(text) if any(binary.values()) else None


def _encode(output: Output) -> bytes:
    if output.datatype == "FP32":
        return np.asarray(output.values, "<f4").tobytes()
    words = [str(word).encode() for word in output.values]
    return b"".join(struct.pack("<I", len(word)) + word for word in words)
