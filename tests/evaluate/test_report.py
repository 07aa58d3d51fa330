"""The page: self-contained, escaped, complete, honest about what is missing, and rebuildable."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_fixture import HOSTILE, make_card, make_inputs, make_split

from cspine.core.errors import ArtifactError
from cspine.core.labels import MEDICAL_NOTICE
from cspine.evaluate.claim import answer_claim
from cspine.evaluate.facts import limits
from cspine.evaluate.inputs import (
    INPUTS_FILE,
    ReportInputs,
    load_inputs,
    plain,
    save_inputs,
    worst_mistakes,
)
from cspine.evaluate.report import render_report, write_report
from cspine.evaluate.tables import Figure, audit_table, figure, published_interval, published_table


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
        ("cnn", "train"), ("cnn", "test"),
        ("published", "train"), ("published", "validation"), ("published", "test"),
    ]  # fmt: skip
    assert rows[1].figures[0] == Figure("2 slices", "3 patients, 42 files")
    assert [f.value for f in rows[-1].figures[1:]] == [
        "0.3144",
        "0.8605",
        "–",
        "–",
        "0.9048",
        "0.7950",
    ]
    assert rows[0].emphasised and not rows[-1].emphasised
    assert published_interval() == "0.65–0.95"


def test_an_audit_names_three_paths_of_a_group():
    leak = {"slice": "B10 (1)", "sides": {"train": ["a", "b", "c", "d", "e"], "test": ["f"]}}
    rows = audit_table({"files": 6, "split_leaks": [leak], "unreadable": {"g": "cut off"}})
    assert rows == [
        ("files", "6", []),
        ("unreadable files", "1", ["g, cut off"]),
        ("slices on two sides of a split", "1", ["B10 (1): train: a, b, c and 2 more; test: f"]),
    ]


def test_a_figure_in_words():
    shown = figure({"value": 0.91234, "low": 0.9, "high": 0.92})
    assert (shown.value, shown.interval) == ("0.912", "0.900–0.920")
    assert figure({"value": None, "low": None, "high": None}).value == "–"
    assert figure(0.5).interval == figure(None).interval == ""


def test_limits_follow_the_data():
    assert "synthetic images alone" in limits({"data": {"layout": "phantom"}})[0]
    few = limits({"data": {"layout": "kaggle", "patients": 4}})
    assert "four patients" in few[0] and "4 patients" in few[1]
    assert "split" in limits({"data": {"split_note": "as published"}})[1]


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
        page = render_report(replace(inputs, card={**inputs.card, "details": details}))
        assert (words in page) == shown


def test_the_roc_by_patient_is_drawn_where_a_series_score_is():
    inputs = make_inputs()
    assert "ROC by patient" not in render_report(inputs)
    series = {"top": 1, "scale": 1.0, "offset": 0.0, "threshold": 0.5}
    decision = {**inputs.card["decision"], "series": series}
    page = render_report(replace(inputs, card={**inputs.card, "decision": decision}))
    patients = len(np.unique(inputs.splits[-1].scored().groups))
    assert f"ROC curve of {patients} patients of the test split" in page
