"""Cards: what is written comes back; what is not a card is named; a signature is verified."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cspine.core.errors import ArtifactError
from cspine.model.store.card import (
    SYNTHETIC_NOTE,
    complete_card,
    find_dicom_window,
    find_domain,
    load_card,
    write_card,
)
from support.cards import CARD, refuse
from support.peak_memory import peak_memory


def test_a_card_comes_back(tmp_path):
    write_card(tmp_path, CARD)
    assert load_card(tmp_path) == CARD
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"architecture": "vgg"}, "architecture"),
        ({"image_size": 31}, "image_size"),
        ({"image_size": "192"}, "image_size"),
        ({"view": "sagittal"}, "view"),
        ({"map_head": 1}, "map_head"),
        ({"domain": "unknown"}, "domain"),
        ({"domain": None}, "domain"),
        ({"decision": None}, "decision"),
        ({"files": []}, "files"),
        ({"class_names": ["fracture", "normal"]}, "class_names"),
        ({"class_names": 5}, "class_names"),
        ({"precision": 5}, "precision"),
    ],
)
def test_a_wrong_value_is_named(change, named, tmp_path):
    write_card(tmp_path, CARD | change)
    with pytest.raises(ArtifactError, match=rf"`{named}`.* must .*Received"):
        load_card(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"image_size": NaN}', "[" * 100_000, "\udcff"])
def test_what_is_no_json_object_is_named(text, tmp_path):
    (tmp_path / "best.json").write_bytes(text.encode("utf8", "surrogateescape"))
    with pytest.raises(ArtifactError, match=r"must be .*JSON"):
        load_card(tmp_path)


def test_a_long_value_is_cut_in_the_error(tmp_path):
    for name in ("architecture", "view", "image_size", "class_names", "files", "precision"):
        write_card(tmp_path, CARD | {name: ["x" * 10_000]})
        with pytest.raises(ArtifactError, match=f"`{name}`") as caught:
            load_card(tmp_path)
        assert len(str(caught.value)) < 200


def test_a_card_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write_card(tmp_path, CARD)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ArtifactError, match=r"best\.json must be readable.*Permission denied"):
        load_card(tmp_path)


def test_infinity_is_never_written(tmp_path):
    with pytest.raises(ArtifactError, match="JSON values only"):
        write_card(tmp_path, CARD | {"loss": float("inf")})


def test_a_signed_card_passes_and_a_changed_one_does_not(tmp_path):
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    write_card(tmp_path, CARD, key)
    assert load_card(tmp_path, public) == CARD
    text = (tmp_path / "best.json").read_text()
    (tmp_path / "best.json").write_text(text.replace("192", "193"))
    with pytest.raises(ArtifactError, match="signed with the private key"):
        load_card(tmp_path, public)


def test_another_key_or_no_signature_is_refused(tmp_path):
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    write_card(tmp_path, CARD)
    with pytest.raises(ArtifactError, match=r"must have best.json.sig"):
        load_card(tmp_path, other)
    write_card(tmp_path, CARD, Ed25519PrivateKey.generate())
    with pytest.raises(ArtifactError, match="signed with the private key"):
        load_card(tmp_path, other)


def test_a_giant_signature_is_not_read_whole(tmp_path):
    key = Ed25519PrivateKey.generate()
    write_card(tmp_path, CARD, key)
    with (tmp_path / "best.json.sig").open("r+b") as file:
        file.truncate(2**28)
    with peak_memory() as peak:
        load_card(tmp_path, key.public_key().public_bytes_raw())
    assert peak.kib < 2**16


def test_the_text_is_stable(tmp_path):
    path = write_card(tmp_path, CARD)
    assert list(json.loads(path.read_text())) == sorted(CARD)


@pytest.mark.parametrize(
    ("facts", "card", "domain"),
    [
        ({"domain": "real", "note": SYNTHETIC_NOTE}, {"data": {"layout": "phantom"}}, "real"),
        ({"domain": "painted"}, {}, "painted"),
        # Older files: the card's layout, else the note.
        ({"note": ""}, {"data": {"layout": "phantom"}}, "synthetic"),
        ({"note": SYNTHETIC_NOTE}, {"data": {"layout": "kaggle"}}, "synthetic"),
        ({"note": ""}, {"data": {"layout": "kaggle"}}, "unknown"),
        ({"note": SYNTHETIC_NOTE}, {}, "synthetic"),
        ({"note": SYNTHETIC_NOTE}, {"data": []}, "synthetic"),
        ({"note": "ours"}, {}, "unknown"),
    ],
)
def test_the_domain_is_the_files_own_or_that_of_what_trained_it(facts, card, domain):
    assert find_domain(facts, card) == domain


@pytest.mark.parametrize(
    ("facts", "card", "window"),
    [
        ({"dicom_window": "header", "note": SYNTHETIC_NOTE}, {}, "header"),
        ({"dicom_window": "fixed", "domain": "real"}, {"data": {"layout": "rsna"}}, "fixed"),
        # Older files.
        ({"domain": "synthetic"}, {"data": {"layout": "phantom"}}, "fixed"),
        ({"domain": "synthetic"}, {"data": {"layout": "rsna"}}, "header"),
        ({"note": SYNTHETIC_NOTE}, {}, "fixed"),
        ({"domain": "real"}, {}, "header"),
        ({"note": "ours"}, {}, "header"),
    ],
)
def test_the_window_is_the_files_own_or_that_of_what_trained_it(facts, card, window):
    assert find_dicom_window(facts, card) == window


def test_a_card_may_lack_later_facts_and_not_contradict_them():
    facts = {name: CARD[name] for name in ("architecture", "image_size", "view")}
    facts["domain"] = "synthetic"
    later = {"domain": "synthetic", "dicom_window": "fixed"}
    assert complete_card(CARD, facts, CARD["version"]) == CARD | later
    assert complete_card(CARD | later, facts, CARD["version"]) == CARD | later
    with pytest.raises(ArtifactError, match=r"`domain` in best\.json must be synthetic"):
        complete_card(CARD | {"domain": "real"}, facts, CARD["version"])
    with pytest.raises(ArtifactError, match=r"`dicom_window` in best\.json must be fixed"):
        complete_card(CARD | {"dicom_window": "header"}, facts, CARD["version"])
    with pytest.raises(ArtifactError, match=r"`version` in best\.json must be 0"):
        complete_card(CARD, facts, "0")
