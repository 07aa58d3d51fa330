"""Folders and files without a server: found, answered, gone on with; the command line."""

import csv
import json

import pytest
from tiny_model import as_png, draw_neck

from cspine.__main__ import main
from cspine.core.errors import ConfigError
from cspine.predict.batch import COLUMNS, ResumableCsv, answer_files, find_images, score_studies
from cspine.predict.predictor import Predictor


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
    found = [path.name for path in find_images([folder, folder / "b.png"])]
    assert found == ["b.png", "broken.png", "a.PNG"]
    with pytest.raises(ConfigError, match="Received"):
        find_images([folder / "nothing"])


def test_every_file_has_a_row_and_a_bad_one_its_error(predictor, folder):
    rows = list(answer_files(predictor, find_images([folder])))
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert all(set(row) == set(COLUMNS) for row in rows)
    assert rows[0]["version"] == predictor.version


def test_a_cut_csv_is_gone_on_with(predictor, folder, tmp_path):
    path = tmp_path / "out.csv"
    table = ResumableCsv(path, predictor.version)
    for row in answer_files(predictor, find_images([folder])):
        table.add(row)
    # The last row is cut in the middle, as an interruption leaves it.
    path.write_text(path.read_text()[:-20])
    again = ResumableCsv(path, predictor.version)
    assert [row["path"][-5:] for row in again.rows] == ["b.png"]
    with pytest.raises(ConfigError, match="answers of model"):
        ResumableCsv(path, "f" * 12)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="of this command"):
        ResumableCsv(path, predictor.version)


def test_a_series_is_scored_by_the_models_rule(predictor):
    class Rule:
        threshold = 0.5

        def apply(self, probabilities):
            return float(probabilities.max())

    class Policy:
        series = Rule()

    class Scorer:
        policy = Policy()

    row = {"series": "s", "probability": "0.2", "in_distribution": "true"}
    # A stranger, a lone slice and one without a series must not count.
    rows = [row, row | {"probability": "0.9"}, row | {"in_distribution": "false"},
            row | {"series": "alone"}, row | {"series": ""}]  # fmt: skip
    [score] = score_studies(Scorer(), rows)
    assert (score.series, score.slices, score.probability, score.prediction) == (
        "s", 2, 0.9, "fracture",
    )  # fmt: skip
    assert score_studies(predictor, rows) == []


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
    assert "0 answered, 2 already there" in capsys.readouterr().err
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == 2


def test_a_wrong_path_is_one_line_and_exit_code_two(tiny_models, capsys):
    assert main(["predict", "/nothing/here", "--models", str(tiny_models)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
