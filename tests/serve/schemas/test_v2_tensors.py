"""Tensors of the Open Inference Protocol: read whole or refused."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest

from cspine.core.errors import ImageError
from cspine.serve.schemas.requests import InlineImage
from cspine.serve.schemas.v2_tensors import OUTPUTS, _flatten, read_infer_request


@settings(max_examples=300)
@given(st.binary(max_size=64), st.integers(-1, 80), st.integers(0, 64))
def test_whatever_is_sent_as_binary_is_read_or_refused(tail, length, size):
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "datatype": "BYTES",
                    "shape": [1],
                    "parameters": {"binary_data_size": size},
                }
            ]
        }
    ).encode()
    try:
        infer_request = read_infer_request(
            head + tail, str(len(head) if length < 0 else length), OUTPUTS
        )
    except (BadRequest, ImageError):
        return
    assert infer_request.sources == (InlineImage(tail[4:]),)
    assert struct.unpack("<I", tail[:4]) == (len(tail) - 4,)


@pytest.mark.parametrize(
    "data", [["x" * 10_000] * 3, [[1, 2], [3]], [[[1]], [2], [3]], [True, 1, 2], [1, 2, 256], []]
)
def test_json_pixels_are_whole_numbers_or_refused(data):
    with pytest.raises(BadRequest):
        _flatten(data)


def test_json_pixels_may_be_nested_or_flat():
    assert _flatten([[[1, 2], [3, 4]]]) == _flatten([1, 2, 3, 4]) == bytes((1, 2, 3, 4))
