"""The shipped model on the whole inference: it speaks of images with the mark, and of no others.

A stand-in for each kind of real image that it once named: a neck without the mark, a chest, a
head, a sagittal slice and a localiser, asked about over HTTP and by `python -m cspine predict`.
"""

import base64
import json

import numpy as np
import pytest
import requests
import tritonclient.http as triton

from cspine.__main__ import main
from cspine.imaging.decode import decode_image
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient
from cspine.phantom.writers.demo_slices import demo_slices
from cspine.phantom.writers.slice_png import encode_slice
from support.hostile_servers import Server, image
from support.real_service import ROOT, running
from support.stand_ins import as_dicom, draw_chest, draw_head

DEMO = "demo model, trained on synthetic images"
WHY = (
    "This model learned from synthetic images alone, so it names no class for an image that is "
    "not known to be synthetic. Train a model on your own data: README.md#train-on-your-images."
)
OPENED = (
    "CSPINE_ANSWER_SYNTHETIC is on: this model learned from synthetic images alone and answers for "
    "any image. For experiments only."
)
NO_NECK = "The image is not an axial CT slice of the neck: "
LOCALISER = f"{NO_NECK}The DICOM header says that the image is a localiser (ImageType LOCALIZER)."
SAGITTAL = (
    f"{NO_NECK}The DICOM header says that the image is not axial: the slice normal is at 90° to "
    "the patient's long axis (ImageOrientationPatient)."
)
BORDERS = (
    f"{NO_NECK}The picture has more sharp borders than a neck; it may be another part of the body, "
    "writing or a drawing."
)


@pytest.fixture(scope="module")
def neck():
    return render_patient(2_500_000, PhantomConfig())[3]


@pytest.fixture(scope="module")
def unmarked(neck):
    """A neck's slice as anybody's PNG."""
    marked = encode_slice(neck.grey)
    start = marked.index(b"tEXt") - 4
    return marked[:start] + marked[marked.index(b"IDAT") - 4 :]


@pytest.fixture(scope="module")
def picture_server(unmarked):
    with Server(image(unmarked)) as server:
        yield server


@pytest.fixture(scope="module")
def service(picture_server, tmp_path_factory):
    log = tmp_path_factory.mktemp("service") / "log.txt"
    allow = f"127.0.0.1:{picture_server.port}"
    models = str(ROOT / "models")
    with running(log, model_dir=models, precision="f32", fetch_allow=allow) as service:
        yield service


def assert_closed(answer, *warnings):
    assert answer["prediction"] == "uncertain" and not answer["in_distribution"]
    assert (answer["probability"], answer["region"]) == (None, None)
    assert answer["model"]["domain"] == "synthetic"
    assert "heatmap" not in answer
    assert answer["warnings"] == [DEMO, *warnings, WHY]


def test_a_neck_without_the_mark_is_named_by_no_way_in(service, picture_server, unmarked, neck):
    url = f"{service.url}/predict?explain=heatmap"
    link = {"url": f"http://127.0.0.1:{picture_server.port}/a.png"}
    text = {"image": base64.b64encode(unmarked).decode()}
    assert_closed(requests.post(url, json=link, timeout=30).json())
    assert_closed(requests.post(url, json=text, timeout=30).json())
    assert_closed(requests.post(url, files={"file": unmarked}, timeout=30).json())
    assert_closed(service.post(unmarked, "?explain=heatmap").json())
    assert_closed(service.post(as_dicom(neck.hu)).json())


def test_protocol_v2_names_it_neither_from_files_nor_from_pixels(service, unmarked, neck):
    client = triton.InferenceServerClient(service.url.removeprefix("http://"))
    assert client.get_model_metadata("cspine")["parameters"] == {
        "domain": "synthetic",
        "answer_synthetic": False,
    }
    files = triton.InferInput("image", [1], "BYTES")
    files.set_data_from_numpy(np.array([unmarked], object))
    pixels = np.repeat(neck.grey[None, :, :, None], 3, axis=3)
    array = triton.InferInput("pixels", list(pixels.shape), "UINT8")
    array.set_data_from_numpy(pixels)
    for tensor in (files, array):
        result = client.infer("cspine", [tensor])
        said = result.get_response()["parameters"]
        assert said == {"domain": "synthetic", "warnings": [DEMO, WHY]}
        assert result.as_numpy("prediction").tolist() == [b"uncertain"]
        assert result.as_numpy("domain").tolist() == [b"synthetic"]
        assert np.isnan(result.as_numpy("probability")).all()
    client.close()


def test_no_picture_of_an_answer_has_the_mark(service):
    marked = demo_slices(6)[0].png
    answer = service.post(marked, "?explain=heatmap,image").json()
    for name in ("heatmap", "image"):
        assert not decode_image(base64.b64decode(answer[name])).is_synthetic


def test_a_marked_localiser_is_answered_uncertain(service, neck):
    mark = {"SyntheticData": "YES", "Manufacturer": "cspine"}
    kind = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER ", "X"]}
    answer = service.post(as_dicom(neck.hu, **mark, **kind)).json()
    assert (answer["prediction"], answer["in_distribution"]) == ("uncertain", False)
    assert answer["probability"] is not None and answer["warnings"] == [DEMO, LOCALISER]


def test_the_demonstrations_slices_are_named(service):
    answers = [service.post(item.png).json() for item in demo_slices(6)]
    assert [answer["prediction"] for answer in answers] == ["fracture", "normal"]
    assert all(answer["warnings"] == [DEMO] for answer in answers)


@pytest.mark.parametrize(
    ("draw", "changes", "warnings"),
    [
        (draw_chest, {}, []),
        (draw_head, {}, [BORDERS]),
        (draw_head, {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, [SAGITTAL]),
        (draw_chest, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, [LOCALISER]),
    ],
    ids=["chest", "head", "sagittal", "localiser"],
)
def test_other_slices_are_told_apart_and_named_by_nobody(service, draw, changes, warnings):
    response = service.post(as_dicom(draw(), **changes))
    assert response.status_code == 200
    assert_closed(response.json(), *warnings)


def test_the_setting_opens_the_model_and_says_so(unmarked, tmp_path):
    settings = {"precision": "f32", "answer_synthetic": "on", "model_dir": str(ROOT / "models")}
    with running(tmp_path / "log.txt", **settings) as service:
        answer = service.post(unmarked).json()
        assert answer["warnings"][:2] == [DEMO, OPENED]
        assert 0 <= answer["probability"] <= 1
        lying = service.post(as_dicom(draw_head(), ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
        assert lying.json()["warnings"][2] == SAGITTAL
        assert lying.json()["prediction"] == "uncertain"


def write_chest(folder):
    folder.mkdir()
    for number in range(1, 9):
        (folder / f"{number}.dcm").write_bytes(as_dicom(draw_chest(number), number))
    return folder


@pytest.mark.parametrize("setting", ["off", "on"])
def test_a_series_of_a_chest_has_no_class(setting, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CSPINE_ANSWER_SYNTHETIC", setting)
    command = ["predict", str(write_chest(tmp_path / "chest")), "--models", str(ROOT / "models")]
    assert main([*command, "--precision", "f32", "--json"]) == 0
    [series] = [
        line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "slices" in line
    ]
    assert (series["slices"], series["prediction"], series["probability"]) == (8, "uncertain", None)
    noun = "slice" if series["used"] == 1 else "slices"
    assert series["reason"] == (
        f"{series['used']} {noun} in distribution, but at least 5 are needed."
    )
    if setting == "off":
        left = [f"{tmp_path / 'chest'}/{number}.dcm" for number in range(1, 9)]
        assert series["left_out"] == {"synthetic_model": left}


def test_the_command_prints_a_reason_behind_every_line_and_a_tally(tmp_path, capsys):
    folder = write_chest(tmp_path / "chest")
    (folder / "scout.dcm").write_bytes(as_dicom(draw_chest(), 9, ImageType=["A", "B", "LOCALIZER"]))
    (folder / "0.png").write_bytes(b"no picture")
    (folder / "demo.png").write_bytes(demo_slices(6)[0].png)
    models = ["--models", str(ROOT / "models"), "--precision", "f32"]
    assert main(["predict", str(folder), *models]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    # The first line is a failure's, which names no model.
    assert lines[1] == f"{folder}/1.dcm: uncertain - ({WHY[:-1]}; a model of synthetic images)"
    assert lines[0].startswith(f"{folder}/0.png: failed. `image` must be PNG")
    assert f"{folder}/demo.png: fracture 0." in lines[9] and "at or above the thresh" in lines[9]
    assert lines[10].endswith(f"uncertain - ({LOCALISER[:-1]}; a model of synthetic images)")
    assert lines[11].startswith("series ") and lines[11].endswith("By a model of synthetic images.")
    assert err.splitlines()[:6] == [
        DEMO,
        "9 files: uncertain",
        "1 file: failed",
        "1 file: fracture",
        "  uncertain, a model of synthetic images names no class for other images: 8",
        "  uncertain, not an axial slice by its DICOM header: 1",
    ]
    assert "10 answered, 1 failed, 0 answered before." in err
