"""Folders and files without a server: found, answered, gone on with; the command line."""

import csv
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cspine.__main__ import main
from cspine.core.errors import ConfigError, ImageError
from cspine.core.text import escape_name
from cspine.predict.batch import COLUMNS, ResumableCsv, answer_files, find_images
from cspine.predict.predictor import Predictor
from support.tiny_model import as_png, draw_neck


@pytest.fixture(scope="module")
def predictor(tiny_models):
    return Predictor.load(tiny_models, "f32", 1)


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    (pictures / "b.png").write_bytes(as_png(draw_neck(seed=1)))
    (pictures / "more" / "a.PNG").write_bytes(as_png(draw_neck(seed=2)))
    (pictures / "broken.png").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("not asked")
    (pictures / ".hidden.png").write_bytes(b"")
    (pictures / "DICOMDIR").write_bytes(b"")
    return pictures


def test_images_are_found_once_and_in_order(folder):
    paths, left_out = find_images([folder, folder / "b.png"])
    assert [path.name for path in paths] == ["b.png", "broken.png", "a.PNG"]
    assert left_out == {
        f"{folder}/.hidden.png": "a hidden file",
        f"{folder}/DICOMDIR": "the index of a DICOM medium",
        f"{folder}/notes.txt": "an unknown format",
    }
    with pytest.raises(ConfigError, match="Received"):
        find_images([folder / "nothing"])


def test_masks_and_twins_of_a_synthetic_set_are_no_slices(tmp_path):
    for name in ("images", "masks", "twins"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"")
    assert len(find_images([tmp_path])[0]) == 3  # anybody's folders
    (tmp_path / "slices.csv").write_text("path,label\n")
    paths, left_out = find_images([tmp_path])
    assert paths == [tmp_path / "images" / "a.png"]
    assert list(left_out.values()).count("a mask or twin of a synthetic set") == 2


def test_every_file_has_a_row_and_a_bad_one_its_error(predictor, folder):
    rows = list(answer_files(predictor, find_images([folder])[0]))
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert all(set(row) == set(COLUMNS) for row in rows)
    assert rows[0]["version"] == predictor.version


def test_a_cut_csv_is_gone_on_with(predictor, folder, tmp_path):
    path = tmp_path / "out.csv"
    table = ResumableCsv(path, predictor.version)
    for row in answer_files(predictor, find_images([folder])[0]):
        table.add(row)
    # The last row is cut in the middle, as an interruption leaves it.
    path.write_text(path.read_text()[:-20])
    again = ResumableCsv(path, predictor.version)
    assert [row["path"][-5:] for row in again.rows] == ["b.png"]
    with pytest.raises(ConfigError, match="answers of model"):
        ResumableCsv(path, "f" * 12)


@pytest.mark.parametrize(
    "content", [b"a,b\n1,2\n", b"a,b\n", b"one line", b"\nx", b"\x89PNG\r\n\x1a\n"]
)
def test_a_file_that_is_none_of_ours_is_refused_and_stays(content, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="that this command wrote"):
        ResumableCsv(path, "f" * 12)
    assert path.read_bytes() == content
    with pytest.raises(ConfigError, match="folder of `--csv` must exist"):
        ResumableCsv(tmp_path / "none" / "out.csv", "f" * 12)


def test_a_heading_that_an_interruption_cut_is_written_again(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("path,predic")
    assert ResumableCsv(path, "f" * 12).rows == []
    assert path.read_text().splitlines() == [",".join(COLUMNS)]


def test_who_is_interrupted_waits_for_nothing_that_has_not_begun(folder):
    asked, going = [], threading.Event()
    first = folder / "first.png"
    first.write_bytes(b"answered at once")

    class Slow:
        limits = SimpleNamespace(check_bytes=lambda count: None)

        def predict(self, data):
            asked.append(1)
            assert data == first.read_bytes() or going.wait(30)
            raise ImageError("no picture")

    rows = answer_files(Slow(), [first, *[folder / "b.png"] * 39])
    next(rows)
    # All threads are held now; they are let go well after `close` took the rest away.
    threading.Timer(1, going.set).start()
    rows.close()
    assert len(asked) < 40


def test_the_command_goes_on_and_tells_failures_by_its_exit_code(
    tiny_models, folder, tmp_path, capsys
):
    out = tmp_path / "out.csv"
    command = ["predict", str(folder), "--models", str(tiny_models), "--csv", str(out)]
    assert main([*command, "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    (folder / "broken.png").unlink()
    assert main(command) == 0
    assert "0 answered, 2 answered before" in capsys.readouterr().err
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == 2


def test_a_wrong_path_is_one_line_and_exit_code_two(tiny_models, capsys):
    assert main(["predict", "/nothing/here", "--models", str(tiny_models)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_name_that_is_not_utf8_is_answered_and_escaped(predictor, tmp_path):
    name = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.png"))
    name.write_bytes(as_png(draw_neck(seed=1)))
    table = ResumableCsv(tmp_path / "out.csv", predictor.version)
    (row,) = answer_files(predictor, [name])
    table.add(row)
    assert row["error"] == "" and row["path"] == f"{tmp_path}/M\\udcfcller.png"
    again = ResumableCsv(tmp_path / "out.csv", predictor.version)
    assert [kept["path"] for kept in again.rows] == [escape_name(name)]
