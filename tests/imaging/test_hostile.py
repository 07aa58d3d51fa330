"""Every hostile file is an ImageError in words, leaves no trace, and costs bounded memory."""

import io

import pytest
from PIL import Image

from cspine.core.errors import ImageError
from cspine.imaging.decode import decode_image
from support.hostile_samples import CODECS, CT, HOSTILE, JPEG, PNG, shipped_as_ct
from support.peak_memory import CLEAR, peak_memory, resident_kib


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_an_image_error(name, capfd, recwarn):
    with pytest.raises(ImageError, match=r"Received: ") as caught:
        decode_image(HOSTILE[name])
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 250
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_there_are_enough_and_their_sources_are_good():
    assert len(HOSTILE) >= 60
    for good in (PNG, JPEG, CT, *map(shipped_as_ct, CODECS)):
        assert decode_image(good).grey.shape == (64, 64)


def test_memory_stays_bounded():
    before = resident_kib() if CLEAR.exists() else 0
    for name, data in HOSTILE.items():
        with peak_memory() as peak, pytest.raises(ImageError):
            decode_image(data)
        assert peak.kib < 300 * 1024, name
    assert resident_kib() - before < 100 * 1024


def test_a_long_thin_picture_costs_no_more_than_its_pixels():
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100_000), (90, 80, 90)).save(buffer, "PNG")
    with peak_memory() as peak:
        assert not decode_image(buffer.getvalue()).is_colour
    # 60 MB of pixels and 20 of grey ones, held twice at most.
    assert peak.kib < 200 * 1024
