"""Copies are found through everything that is done to copies; neighbouring slices stay apart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from cspine.data.audit.descriptors import Signature, describe, sample
from cspine.data.audit.duplicates import CopySearch, find_candidates
from cspine.data.audit.registration import Reference, register
from cspine.data.disjoint_sets import DisjointSets
from support.data_pictures import make_slice


def turn(image: Image.Image, angle: float, crop: float = 0.0, fill: int = 0) -> Image.Image:
    """Rotate, cut the margin off, and scale back up: what the published copies went through."""
    side, cut = image.width, int(image.width * crop)
    turned = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=fill)
    return turned.crop((cut, cut, side - cut, side - cut)).resize((side, side))


def recode(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("L")


CHANGES = {
    "quarter turn": lambda im: im.rotate(90),
    "three quarters mirrored": lambda im: im.transpose(Image.Transpose.FLIP_TOP_BOTTOM).rotate(270),
    "mirrored": lambda im: im.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "3 degrees": lambda im: turn(im, 3),
    "-17 degrees, cropped": lambda im: turn(im, -17, 0.08),
    "30 degrees, white corners": lambda im: turn(im, 30, 0.10, 255),
    "turned twice, 224": lambda im: turn(turn(im, 12), -7).resize((224, 224)),
    "sharpened": lambda im: im.filter(ImageFilter.SHARPEN),
    "sharpened, turned, 224": lambda im: turn(im.resize((224, 224)).filter(ImageFilter.SHARPEN), 9),
    "jpeg 60": lambda im: recode(im, 60),
    "jpeg 75 at 224": lambda im: recode(im.resize((224, 224)), 75),
    "half the size": lambda im: im.resize((160, 160)),
    "twice the size": lambda im: im.resize((640, 640)),
    "other aspect": lambda im: im.resize((300, 250)),
    "brighter": lambda im: ImageEnhance.Brightness(im).enhance(1.2),
    "more contrast": lambda im: ImageEnhance.Contrast(im).enhance(1.4),
}


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    return [make_slice(volume, number) for volume in range(2) for number in range(3)]


@pytest.fixture(scope="module")
def signed(originals) -> list[Signature]:
    return [describe(np.asarray(image)) for image in originals]


def search(signed: list[Signature], copy: Image.Image) -> DisjointSets:
    signatures = [*signed, describe(np.asarray(copy))]
    sizes = [320] * len(signed) + [min(copy.size)]
    found = CopySearch(signatures, sizes, lambda one, other: True)
    found.run()
    return found.sets


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_changed_copy_is_joined_with_its_source_alone(originals, signed, change):
    sets = search(signed, CHANGES[change](originals[4]))
    # With its source and with none of the neighbours, which look much alike.
    joined = [i for i in range(len(signed)) if sets.is_joined(i, len(originals))]
    assert joined == [4]
    assert len({sets.find(i) for i in range(len(originals))}) == len(originals)


def test_registration_returns_the_map(originals):
    reference = Reference(describe(np.asarray(originals[0])))
    match = register(reference, describe(np.asarray(turn(originals[0], 20))))
    angle = np.degrees(np.arctan2(match.affine[1, 0], match.affine[0, 0]))
    assert angle == pytest.approx(-20, abs=0.2)
    assert np.linalg.det(match.affine[:, :2]) == pytest.approx(1, abs=0.01)


def test_blank_pictures_are_compared_with_none(originals):
    blank = Image.new("L", (320, 320), 90)
    signatures = [describe(np.asarray(i)) for i in [*originals[:2], blank, blank]]
    assert find_candidates(signatures) == [[1], [0], [], []]


def test_sample_is_bilinear_from_the_centre():
    pixels = np.arange(16, dtype=np.float32).reshape(4, 4)
    points = np.array([[-1.5, 0.0, 0.5], [-1.5, 0.0, 9.0]], np.float32)
    assert sample(pixels, points) == pytest.approx([0.0, 7.5, 14.0], abs=0.01)


def test_sets_keep_the_smallest_index():
    sets = DisjointSets(5)
    sets.join(4, 2)
    sets.join(2, 1)
    # 4, 2 and 1 are one set, named by its smallest.
    assert [sets.find(i) for i in range(5)] == [0, 1, 1, 3, 1]
    assert sets.groups() == [[0], [1, 2, 4], [3]]
