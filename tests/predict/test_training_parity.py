"""What serving hands to the network is what training learned from, to a grey level."""

import numpy as np
import pytest
from PIL import Image

from cspine.data.crop_cache import load_samples
from cspine.data.index import index_dataset
from cspine.imaging.decode import decode_image
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.dicom_layouts import write_dicom
from cspine.predict.predictor import Predictor

CONFIG = PhantomConfig(patients=1, slices_per_patient=2, seed=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two slices as DICOM, and the same as PNG and JPEG, all in one table."""
    root = write_dicom(tmp_path_factory.mktemp("parity") / "set", CONFIG)
    rows = ["path,label,patient_id"]
    for number, path in enumerate(sorted(root.rglob("*.dcm"))):
        grey = Image.fromarray(decode_image(path.read_bytes()).grey)
        for suffix in (".dcm", ".png", ".jpg"):
            other = path.with_suffix(suffix)
            if suffix != ".dcm":
                grey.save(other)
            label = ("normal", "fracture")[number % 2]
            rows.append(f"{other.relative_to(root)},{label},{number}{suffix}")
    (root / "slices.csv").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize("view, size", [("vertebra", 192), ("slice", 224)])
def test_serving_makes_the_pixels_that_training_learned_from(
    tiny_models, folder, tmp_path, view, size
):
    dataset = index_dataset(folder)
    samples = load_samples(dataset, dataset.records, view, size, tmp_path)
    serving = Predictor.load(tiny_models, "f32", 1)
    serving.view, serving.image_size = view, size
    assert {record.path[-4:] for record in samples.records} == {".dcm", ".png", ".jpg"}
    for record, learned in zip(samples.records, samples.images, strict=True):
        _, crop = serving.prepare(decode_image(dataset.read_bytes(record.path)))
        assert np.abs(crop.image.astype(int) - learned).max() <= 1
