"""The same Hounsfield units give the same answer, whatever display window a DICOM file names."""

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from cspine.data.crop_cache import load_samples
from cspine.data.index import index_dataset
from cspine.imaging.dicom.window import HEADER_USED
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.dicom_layouts import write_dicom
from cspine.predict.predictor import Predictor

MODELS = Path(__file__).parents[2] / "models"
WINDOWS = [(400, 1800), (40, 400), ([40, 400], [400, 1800])]
COUNT = 26


def change_window(data: bytes, centre, width) -> bytes:
    slice_ = dcmread(io.BytesIO(data))
    slice_.WindowCenter, slice_.WindowWidth = centre, width
    out = io.BytesIO()
    slice_.save_as(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = PhantomConfig(patients=4, slices_per_patient=8, seed=77)
    return write_dicom(tmp_path_factory.mktemp("dicom") / "set", config)


@pytest.fixture(scope="module")
def files(folder):
    return [path.read_bytes() for path in sorted(folder.rglob("*.dcm"))][:COUNT]


@pytest.fixture(scope="module")
def shipped():
    return Predictor.load(MODELS, precision="f32", answer_synthetic=True)


def test_answers_and_pictures_are_equal_under_every_window(files, shipped):
    assert len(files) == COUNT
    for data in files:
        answers = [
            shipped.predict(change_window(data, *window), explain=True) for window in WINDOWS
        ]
        assert answers[0].probability is not None
        assert answers[0] == answers[1] == answers[2]
        bodies = [answer.to_dict(("heatmap", "image")) for answer in answers]
        assert bodies[0] == bodies[1] == bodies[2]


def test_a_model_that_learned_by_the_header_keeps_it_and_says_so(files, shipped):
    card = {**shipped.card, "dicom_window": "header"}
    older = Predictor(shipped.engine, shipped.policy, card, answer_synthetic=True)
    bone, soft = (
        older.predict(change_window(files[0], *window), explain=True) for window in WINDOWS[:2]
    )
    assert HEADER_USED in bone.warnings and HEADER_USED in soft.warnings
    assert not np.array_equal(bone.grey, soft.grey)


def test_training_crops_are_equal_under_every_window(folder, tmp_path):
    crops = []
    for number, window in enumerate(WINDOWS):
        tree = tmp_path / str(number)
        for row, path in enumerate(sorted(folder.rglob("*.dcm"))[:6]):
            target = tree / ("fracture", "normal")[row % 2] / f"{row}.dcm"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(change_window(path.read_bytes(), *window))
        dataset = index_dataset(tree)
        samples = load_samples(dataset, dataset.records, "vertebra", 64, tmp_path / "cache")
        crops.append(samples.images)
    np.testing.assert_array_equal(crops[0], crops[1])
    np.testing.assert_array_equal(crops[0], crops[2])
    assert len(crops[0]) > 0
