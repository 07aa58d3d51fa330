"""The page: self-contained, escaped, complete, honest about what is missing, and rebuildable."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from cspine.core.errors import ArtifactError
from cspine.core.labels import MEDICAL_NOTICE
from cspine.evaluate.report.audit_table import audit_table
from cspine.evaluate.report.card_text import describe_basis, limits
from cspine.evaluate.report.claim_checklist import answer_claim
from cspine.evaluate.report.inputs import (
    INPUTS_FILE,
    ReportInputs,
    load_inputs,
    plain,
    save_inputs,
    worst_mistakes,
)
from cspine.evaluate.report.page import render_report, write_report
from cspine.evaluate.report.tables import (
    PUBLISHED,
    PUBLISHED_INTERVAL,
    PUBLISHED_TEST_SLICES,
    Figure,
    basis_rows,
    figure,
    published_table,
)
from support.report_fixture import HOSTILE, make_card, make_inputs, make_split


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(make_inputs())


class Outline(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.ids, self.links, self.images = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)


def test_nothing_is_fetched_and_no_script_runs(page):
    outline = Outline(page)
    assert not {"script", "link", "iframe", "object"} & set(outline.tags)
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in outline.images)
    assert not re.findall(r"(?:src|href)=[\"']https?:", page)
    assert not re.findall(r"url\((?!#)", page)


def test_names_are_text_never_markup(page):
    assert HOSTILE not in page
    assert "&lt;script&gt;alert" in page
    # And not 49: a name is no template either.
    assert "{{7*7}}" in page


def test_the_notice_and_the_note_stand_on_the_page(page):
    assert page.count(MEDICAL_NOTICE) == 2
    assert "demo model, trained on synthetic images" in page


def test_every_image_has_words_and_every_link_a_place(page):
    outline = Outline(page)
    assert all(image["alt"] for image in outline.images)
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert page.count('role="img"') == page.count("<svg ") == 7


def test_ten_mistakes_and_44_items(page):
    assert page.count("<figcaption><strong>Truth") == 10
    assert len(answer_claim(make_card([]))) == 44
    assert all(item.answer and "{" not in item.answer for item in answer_claim({}))


def test_the_published_figures_stand_beside_ours_as_normal():
    sides = {"test": {"slices": 42, "distinct_slices": 2, "patients": 3}}
    rows = published_table({"cnn": {"test": {"recall": 0.9}, "train": {}}}, "cnn", sides)
    assert [row.heads for row in rows] == [
        ("cnn", "train"),
        ("cnn", "test"),
        ("published", "train"),
        ("published", "validation"),
        ("published", "test"),
    ]
    assert rows[1].figures[0] == Figure("2 slices", "3 patients, 42 files")
    assert [f.value for f in rows[-1].figures[1:]] == [
        "0.3144",
        "0.8605",
        "–",
        "–",
        "–",
        "0.9048",
        "0.7950",
    ]
    assert rows[0].emphasised and not rows[-1].emphasised


def test_the_published_interval_is_wilsons():
    z, share = 1.959963984540054, PUBLISHED["test"]["accuracy_at_half"]
    count = PUBLISHED_TEST_SLICES
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * (share * (1 - share) / count + (z / (2 * count)) ** 2) ** 0.5 / (1 + z**2 / count)
    assert f"{middle - half:.2f}–{middle + half:.2f}" == PUBLISHED_INTERVAL == "0.65–0.95"


def test_an_audit_names_three_paths_of_a_group():
    leak = {"slice": "B10 (1)", "sides": {"train": ["a", "b", "c", "d", "e"], "test": ["f"]}}
    rows = audit_table({"files": 6, "split_leaks": [leak], "unreadable": {"g": "cut off"}})
    assert rows == [
        ("files", "6", []),
        ("unreadable files", "1", ["g, cut off"]),
        (
            "slices on more than one side of the split",
            "1",
            ["B10 (1): train: a, b, c and 2 more; test: f"],
        ),
    ]


def test_an_audit_tells_classes_kinds_and_shortcuts():
    score = {"auroc": 0.991, "low": 0.98, "high": 1.0, "is_confound": True}
    audit = {
        "classes": {"normal": {"files": 40, "slices": 2}},
        "kinds": {"png 224×224 grey": 39, "jpeg 64×64 colour": 1},
        "odd_files": ["odd.jpg"],
        "shortcuts": {"slice number": score, "size": None},
        "confounds": ["slice number"],
    }
    assert audit_table(audit) == [
        ("distinct slices of class normal", "2", ["in 40 files"]),
        ("kinds of file", "2", ["png 224×224 grey: 39 files", "jpeg 64×64 colour: 1 file"]),
        ("files of a rare kind", "1", ["odd.jpg"]),
        ("AUROC from only the slice number", "0.991", ["0.980–1.000, a confound"]),
        ("AUROC from only the size", "–", ["not measured"]),
        ("confounds: features that alone separate the classes", "1", ["slice number"]),
    ]


def test_a_figure_in_words():
    shown = figure({"value": 0.91234, "low": 0.9, "high": 0.92})
    assert (shown.value, shown.interval) == ("0.912", "0.900–0.920")
    assert figure({"value": None, "low": None, "high": None}).value == "–"
    assert figure(0.5).interval == figure(None).interval == ""


def test_columns_say_on_what_they_stand():
    sides = {"test": {"slices": 1, "patients": 1}}
    columns = ["test", "test, by patient", "train"]
    row = basis_rows(columns, sides, {})[0]
    assert row.figures == (Figure("1 slice", "1 patient"), Figure("1 patient"), Figure("–"))
    row = basis_rows(columns, sides, {"test": {"patients_scored": 0}})[0]
    assert row.figures[1] == Figure("0 patients")


def claim(number: int, data: dict) -> str:
    return answer_claim({"data": data})[number - 1].answer


def test_the_checklist_follows_the_split():
    assert claim(10, {"split": "published"}).startswith("None: every labelled file")
    assert "from each tenth of each study's length" in claim(
        10, {"layout": "rsna", "split": "grouped"}
    )
    assert claim(10, {}).startswith("One variant of each slice is used")
    assert "the test set is used only once" in claim(26, {"sides": {"test": {}}})
    assert "there is no test set" in claim(26, {"sides": {"out-of-fold": {}}})


def test_out_of_fold_figures_say_what_was_fitted_on_them():
    card = {
        "metrics": {"out-of-fold": {}},
        "data": {"sides": {"out-of-fold": {"slices": 80, "patients": 4}}},
    }
    assert describe_basis(card).startswith("They are based on 80 slices of 4 patients. Calibration")
    assert "“out-of-fold” are based on 4 patients" in limits(card)[1]
    assert "There is no independent test" in limits(card)[2]


def test_a_curve_of_one_patient_promises_no_band():
    split = replace(make_split("test", 0, 1), name="test")
    page = render_report(ReportInputs(card=make_card([split]), splits=[split]))
    assert "ROC curve of the test split; AUROC" in page
    assert "ROC curve of the test split with its 95 % band" in render_report(make_inputs())


def test_a_probability_supposes_the_share_of_fractures_that_it_was_calibrated_on():
    side = {"slices": 200, "fractures": 62, "patients": 60}
    [told] = [line for line in limits({"data": {"sides": {"validation": side}}}) if "31 %" in line]
    assert told.startswith("Probabilities are calibrated for slices of which 31 % are fractured.")
    assert not any("calibrated for" in line for line in limits({"data": {"sides": {}}}))


def test_limits_follow_the_data():
    assert "synthetic images only" in limits({"data": {"layout": "phantom"}})[0]
    few = limits({"data": {"layout": "kaggle", "patients": 4}})
    assert "four patients" in few[0] and "4 patients" in few[1]
    assert "split" in limits({"data": {"split_note": "as published"}})[1]


def test_a_control_says_on_how_many_it_stands():
    inputs = make_inputs()
    control = {"auroc": {"value": 0.51, "low": 0.44, "high": 0.57}, "slices": 60, "patients": 6}
    controls = {"random_labels": control, "shortcut_auroc": {"value": 0.6}}
    page = render_report(replace(inputs, card={**inputs.card, "controls": controls}))
    assert re.search(
        r"random labels</dt><dd>0\.510 \([^)]+\), on 60 slices of 6 patients</dd>", page
    )
    assert re.search(r"shortcut auroc</dt><dd>0\.600</dd>", page)


def test_an_empty_report_says_what_is_missing():
    page = render_report(ReportInputs(card={}))
    assert "The card holds no figures." in page
    assert "No audit was recorded." in page
    assert "not recorded" in page and MEDICAL_NOTICE in page


def test_one_class_and_no_widths_give_a_page_without_curves():
    split = make_split("test", 0)
    normal = split.labels == 0
    alone = type(split)(
        "test", split.labels[normal], split.probabilities[normal], split.groups[normal]
    )
    page = render_report(ReportInputs(card=make_card([alone]), splits=[alone]))
    assert 'id="curves"' not in page and 'id="widths"' not in page


def test_the_page_is_built_again_from_its_inputs(tmp_path):
    inputs = make_inputs()
    path = write_report(tmp_path / "report", inputs)
    assert path.name == "index.html"
    assert sorted(p.name for p in path.parent.iterdir()) == ["index.html", INPUTS_FILE]
    json.loads((path.parent / INPUTS_FILE).read_text(encoding="utf-8"), parse_constant=pytest.fail)
    again = render_report(load_inputs(path.parent / INPUTS_FILE, inputs.card))
    assert again == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 9}', '{"schema": 1}', "{"])
def test_damaged_inputs_are_named(tmp_path, text):
    path = tmp_path / INPUTS_FILE
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="report's inputs"):
        load_inputs(path, {})


def test_inputs_of_another_model_are_refused(tmp_path):
    save_inputs(path := tmp_path / INPUTS_FILE, ReportInputs(card={"version": "a" * 12}))
    assert load_inputs(path, {"version": "a" * 12}).card == {"version": "a" * 12}
    with pytest.raises(ArtifactError, match=r"version bbbbbbbbbbbb\. Received: 'aaaaaaaaaaaa'"):
        load_inputs(path, {"version": "b" * 12})


def test_inputs_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / INPUTS_FILE
    save_inputs(path, ReportInputs(card={}))
    before = path.read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        save_inputs(path, ReportInputs(card={}, audit={"x": object()}))
    assert path.read_text(encoding="utf-8") == before


def test_plain_values():
    assert plain({"a": np.float32(0.5), 1: [np.nan, np.array([1, 2])]}) == {
        "a": 0.5,
        "1": [None, [1, 2]],
    }


def test_the_worst_mistakes_come_first_and_only_mistakes():
    labels = np.array([0, 1, 0, 1, 1])
    probabilities = np.array([0.9, 0.1, 0.2, 0.95, np.nan])
    slices = np.array(list("abcde"))
    assert worst_mistakes(labels, probabilities, 0.5, slices).tolist() == [0, 1]
    assert worst_mistakes(labels, probabilities, 0.5, slices, count=1).tolist() == [0]


def test_of_the_copies_of_a_slice_the_furthest_off_stands_for_all():
    found = worst_mistakes(
        np.ones(4, int), np.array([0.2, 0.1, 0.4, 0.3]), 0.5, np.array(list("aabb"))
    )
    assert found.tolist() == [1, 3]


def test_studies_without_boxes_have_a_column_where_they_are_scored():
    inputs = make_inputs()
    words = "test, fractured studies without boxes"
    found = {"studies": 3, "scored": 2, "recall": {"value": 0.5}, "auroc": {"value": 0.7}}
    for parts, shown in ((found, True), ({"studies": 3, "scored": 0}, False), ({}, False)):
        details = {"test": {"unboxed_studies": parts}}
        data = {**inputs.card["data"], "sides": {"test": {"slices": 320, "patients": 40}}}
        card = {**inputs.card, "details": details, "data": data}
        page = render_report(replace(inputs, card=card))
        assert (words in page) == shown
        assert ("2 of 3 studies" in page) == shown


def test_the_roc_by_patient_is_drawn_where_a_series_score_is():
    inputs = make_inputs()
    assert "ROC by patient" not in render_report(inputs)
    series = {
        "top": 1,
        "scale": 1.0,
        "offset": 0.0,
        "threshold": 0.5,
        "normal": {"quantiles": [0.0, 0.0], "slices": 1000},
    }
    decision = {**inputs.card["decision"], "series": series}
    page = render_report(replace(inputs, card={**inputs.card, "decision": decision}))
    patients = len(np.unique(inputs.splits[-1].scored().groups))
    assert f"ROC curve of {patients} patients of the test split" in page
