"""The mark of a synthetic image: what the phantom writes has it, and nothing else does."""

import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cspine.core.png import encode_png
from cspine.core.synthetic_mark import PNG_KEYWORD, PNG_TEXT
from cspine.imaging.decode import decode_image, image_from_array
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.contact_sheet import write_sheet
from cspine.phantom.writers.demo_slices import demo_slices
from cspine.phantom.writers.dicom_layouts import write_dicom, write_rsna
from cspine.phantom.writers.grouped import write_grouped
from cspine.phantom.writers.kaggle_layout import write_kaggle
from support.imaging_samples import ct_bytes, make_picture, make_ramp

RAMP = make_ramp(64, 64)
TINY = PhantomConfig(patients=2, slices_per_patient=3, seed=3)


def png_with(keyword: str, text: str, **options) -> bytes:
    info = PngInfo()
    info.add_text(keyword, text, **options)
    return make_picture(Image.fromarray(RAMP), pnginfo=info)


@pytest.mark.parametrize("write", [write_grouped, write_kaggle, write_dicom, write_rsna])
def test_every_image_of_a_written_set_has_the_mark(write, tmp_path):
    root = write(tmp_path / "set", TINY)
    files = [path for path in root.rglob("*") if path.suffix in (".png", ".dcm")]
    marked = {path for path in files if decode_image(path.read_bytes()).is_synthetic}
    masks = {path for path in files if path.parent.name == "masks"}
    assert marked and marked == set(files) - masks


def test_the_demonstrations_slices_have_the_mark():
    assert all(decode_image(item.png).is_synthetic for item in demo_slices())


def test_the_mark_changes_no_pixel():
    marked = decode_image(png_with(PNG_KEYWORD, PNG_TEXT))
    assert marked.is_synthetic and (marked.grey == RAMP).all()


@pytest.mark.parametrize(
    "data",
    [
        encode_png(RAMP),  # heat maps, crops and pictures of answers
        make_picture(Image.fromarray(RAMP)),
        make_picture(Image.fromarray(RAMP), "JPEG"),
        png_with(PNG_KEYWORD, "NO"),
        png_with("Comment", PNG_TEXT),
        png_with(PNG_KEYWORD, PNG_TEXT, zip=True),
        ct_bytes(),
        ct_bytes(SyntheticData="YES"),
        ct_bytes(Manufacturer="cspine"),
        ct_bytes(SyntheticData="NO", Manufacturer="cspine"),
    ],
)
def test_no_other_picture_has_the_mark(data):
    assert not decode_image(data).is_synthetic


def test_neither_arrays_nor_sheets_have_the_mark(tmp_path):
    assert not image_from_array(RAMP).is_synthetic
    sheet = write_sheet(tmp_path / "sheet.png", PhantomConfig(seed=1))
    assert not decode_image(sheet.read_bytes()).is_synthetic


def test_a_slice_that_is_saved_again_loses_the_mark():
    saved = io.BytesIO()
    Image.open(io.BytesIO(png_with(PNG_KEYWORD, PNG_TEXT))).save(saved, "PNG")
    assert not decode_image(saved.getvalue()).is_synthetic
