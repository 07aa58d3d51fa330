"""Only the markers of a plain JPEG reach the decoder, whatever Pillow would take for a frame."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cspine.imaging.decode import decode_image

PIXELS = np.tile(np.arange(0, 256, 4, np.uint8), (64, 1))


@pytest.mark.parametrize("marker", [0xDE, 0xC8, 0xF0, 0xFE])  # DHP, JPG, JPG0, COM
def test_a_frame_in_another_marker_changes_nothing(marker):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", quality=95)
    plain = buffer.getvalue()
    frame = struct.pack(">BHHB3B", 8, 60_000, 60_000, 1, 1, 0x11, 0)
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(frame) + 2) + frame
    spoilt = decode_image(plain[:2] + segment + plain[2:])
    assert np.array_equal(spoilt.grey, decode_image(plain).grey)
