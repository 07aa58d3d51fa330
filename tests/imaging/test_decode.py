"""PNG and JPEG to grey, by exact values: depths, palettes, alpha, orientation, limits."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cspine.core.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from cspine.imaging.decode import Limits, decode_image, image_from_array
from support.hostile_samples import chunk, png
from support.imaging_samples import make_picture, make_ramp

RAMP = make_ramp()


def insert_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """The PNG with a chunk after its IHDR, which ends at byte 33."""
    return png[:33] + chunk(name, content) + png[33:]


def test_grey_png_is_exact():
    decoded = decode_image(make_picture(Image.fromarray(RAMP)))
    assert np.array_equal(decoded.grey, RAMP) and decoded.grey.dtype == np.uint8
    assert (decoded.kind, decoded.is_colour, decoded.hu, decoded.warnings) == (
        "png",
        False,
        None,
        (),
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_in_other_modes_is_exact(mode):
    decoded = decode_image(make_picture(Image.fromarray(RAMP).convert(mode)))
    assert np.array_equal(decoded.grey, RAMP) and not decoded.is_colour


def test_one_bit_is_black_and_white():
    decoded = decode_image(make_picture(Image.fromarray(RAMP > 100)))
    assert np.array_equal(decoded.grey, np.where(RAMP > 100, 255, 0))


def test_sixteen_bit_grey_is_the_high_byte():
    deep = RAMP.astype(np.uint16) * 256 + 255
    decoded = decode_image(make_picture(Image.fromarray(deep)))
    assert np.array_equal(decoded.grey, RAMP) and decoded.warnings == ()


def test_sixteen_bit_colour_is_the_high_byte():
    rows = [
        b"\0" + np.repeat(row * 256 + 255, 3).astype(">u2").tobytes() for row in RAMP.astype(int)
    ]
    file = png(*RAMP.T.shape, depth=16, colour=2, rows=zlib.compress(b"".join(rows)))
    assert np.array_equal(decode_image(file).grey, RAMP)


def test_twelve_bits_in_sixteen_are_warned_of():
    decoded = decode_image(make_picture(Image.fromarray(RAMP.astype(np.uint16) * 8)))
    assert "window before saving it" in decoded.warnings[0]


def test_palette_colours_are_looked_up():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    decoded = decode_image(make_picture(palette))
    assert decoded.is_colour and (decoded.grey == round(0.299 * 200 + 0.587 * 100 + 5.7)).all()


@pytest.mark.parametrize("alpha, expected", [(255, 200), (0, 0), (51, 40)])
def test_alpha_lies_over_air(alpha, expected):
    decoded = decode_image(make_picture(Image.new("LA", (3, 3), (200, alpha))))
    assert (decoded.grey == expected).all()


def test_transparent_colour_of_a_grey_png_is_air():
    picture = Image.fromarray(np.array([[10, 200]], np.uint8))
    assert decode_image(make_picture(picture, transparency=10)).grey.tolist() == [[0, 200]]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
@settings(max_examples=40, deadline=None)
def test_any_size_and_level_survive_png(height, width, level):
    grey = np.full((height, width), level, np.uint8)
    assert np.array_equal(decode_image(make_picture(Image.fromarray(grey))).grey, grey)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_close(mode):
    smooth = np.tile(np.linspace(20, 220, 64).astype(np.uint8), (48, 1))
    jpeg = make_picture(Image.fromarray(smooth).convert(mode), "JPEG", quality=95)
    decoded = decode_image(jpeg)
    assert decoded.kind == "jpeg" and not decoded.is_colour
    assert np.abs(decoded.grey.astype(int) - smooth).max() <= 4


def test_colour_photograph_is_colour():
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize((96, 96))
    assert decode_image(make_picture(photo, "JPEG")).is_colour


@pytest.mark.parametrize("depth, colour", [(1, 0), (2, 3), (4, 3), (8, 3), (8, 2), (16, 2)])
@pytest.mark.parametrize("clear", [b"", b"\xff" * 2, b"\0" * 6, b"\xff" * 300])
def test_any_transparency_is_answered_or_refused(depth, colour, clear):
    row = b"\0" + bytes(range(48))[: 8 * depth * (3 if colour == 2 else 1) // 8]
    extra = chunk(b"PLTE", bytes(range(30))) * (colour == 3) + chunk(b"tRNS", clear)
    file = png(depth=depth, colour=colour, rows=zlib.compress(row * 8), extra=extra)
    try:
        assert decode_image(file).grey.shape == (8, 8)
    except ImageError as error:
        assert "damaged" in str(error)


def test_small_coloured_caption_is_not_colour():
    slice_ = np.repeat(make_ramp(200, 200)[..., None], 3, axis=2)
    slice_[:8, :16] = (255, 255, 0)
    assert not decode_image(make_picture(Image.fromarray(slice_))).is_colour


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.fromarray(np.kron(np.arange(6).reshape(2, 3), np.full((8, 8), 40)).astype("u1"))
    inverse = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF value → Pillow's Transpose
    stored = upright if inverse == 1 else upright.transpose(turn[inverse])
    decoded = decode_image(make_picture(stored, kind, exif=exif))
    assert np.abs(decoded.grey.astype(int) - np.asarray(upright)).max() <= 3


def test_profiles_and_text_are_ignored():
    png = make_picture(Image.fromarray(RAMP))
    png = insert_chunk(png, b"iCCP", b"bad\0\0not a profile")
    png = insert_chunk(png, b"zTXt", b"bomb\0\0" + zlib.compress(bytes(50_000_000)))
    assert np.array_equal(decode_image(png).grey, RAMP)


def test_several_frames_are_named():
    frames = [Image.fromarray(RAMP), Image.fromarray(RAMP[::-1])]
    apng = make_picture(frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImageError, match="animated PNG"):
        decode_image(apng)
    mpo = make_picture(frames[0].convert("RGB"), "MPO", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImageError, match="MPO"):
        decode_image(mpo)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PDF"])
def test_other_formats_are_named(kind):
    name = {"WEBP": "WebP"}.get(kind, kind)
    with pytest.raises(UnsupportedImageError, match=f"PNG, JPEG or DICOM. Received: {name}"):
        decode_image(make_picture(Image.fromarray(RAMP), kind))


def test_limits_hold_before_decoding():
    png = make_picture(Image.fromarray(RAMP))
    with pytest.raises(ImageTooLargeError, match=r"at most 767 pixels\. Received: 32 × 24"):
        decode_image(png, Limits(max_pixels=767))
    with pytest.raises(ImageTooLargeError, match=f"at most {len(png) - 1} bytes"):
        decode_image(png, Limits(max_bytes=len(png) - 1))
    with pytest.raises(ImageTooLargeError, match="at most 89478485 pixels"):
        bomb = png[:16] + struct.pack(">II", 20_000, 20_000) + png[24:]
        decode_image(bomb, Limits(max_pixels=10**9))


def test_empty_is_named():
    with pytest.raises(ImageError, match="Received: 0 bytes"):
        decode_image(b"")


def test_array_passes_through():
    assert np.array_equal(image_from_array(RAMP).grey, RAMP)
    decoded = image_from_array(np.dstack([RAMP, RAMP, RAMP]))
    assert np.array_equal(decoded.grey, RAMP) and decoded.kind == "array"
    with pytest.raises(ImageError, match=r"Received: float64 of shape \(2, 2\)"):
        image_from_array(np.zeros((2, 2)))


def test_decoding_leaves_no_trace(capfd, recwarn):
    decode_image(make_picture(Image.fromarray(RAMP), "JPEG"))
    with pytest.raises(ImageError):
        decode_image(make_picture(Image.fromarray(RAMP))[:-20])
    assert capfd.readouterr() == ("", "") and not recwarn.list


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b'\n\n<!DOCTYPE html>\n<html lang="en">', "a web page"),
        (b"  <HTML><body>", "a web page"),
        (b"<?xml version='1.0'?>", "HTML or XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"\r\n--b1\r\nContent-Type: application/dicom\r\n\r\n", "ask for one instance"),
        (b"-- a note", "an unknown format"),
    ],
)
def test_texts_in_place_of_an_image_are_named(data, named):
    with pytest.raises(UnsupportedImageError, match=f"Received: .*{named}"):
        decode_image(data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
@pytest.mark.parametrize("side", [64, 62])
def test_a_jpeg_may_end_in_middle_grey(options, side):
    picture = np.full((side, side), 128, np.uint8)
    picture[16:40] = 200
    data = make_picture(Image.fromarray(picture), "JPEG", quality=95, **options)
    assert (decode_image(data).grey[-8:] == 128).all()


def test_a_jpeg_that_ends_too_early_is_refused_wherever_it_is_cut():
    picture = np.full((64, 64), 128, np.uint8)
    picture[40:] = make_ramp(24, 64)
    data = make_picture(Image.fromarray(picture), "JPEG", quality=95)
    # Cut within the coded data of the lowest rows, and closed as a browser's cache closes it.
    start = data.index(b"\xff\xda") + 20
    for end in range(start, len(data) - 100, 7):
        with pytest.raises(ImageError, match="whole"):
            decode_image(data[:end] + b"\xff\xd9")
