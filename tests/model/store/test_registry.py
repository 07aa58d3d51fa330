"""Publishing and resolving: the last version whose hashes match is the one that is served."""

import errno
import hashlib
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cspine.core.errors import ArtifactError
from cspine.model.store.card import write_card
from cspine.model.store.hashes import hash_file
from cspine.model.store.registry import list_versions, publish_version, resolve_version
from support.cards import CARD, publish, refuse


def test_the_published_version_is_served(tmp_path, models):
    version = publish(tmp_path, models, "a")
    files = resolve_version(models)
    assert files.version == version == hash_file(models / "best.h5")[:12]
    assert files.h5.read_text() == "a"
    assert files.listed_hash("best.xml") == hash_file(files.folder / "best.xml")


def test_three_versions_are_kept(tmp_path, models):
    names = [publish(tmp_path, models, text) for text in "abcde"]
    # The last three of five, the newest first.
    assert list_versions(models) == names[:1:-1]
    assert resolve_version(models).version == names[-1]
    assert resolve_version(models, names[2]).h5.read_text() == "c"


def test_a_model_that_lay_there_is_kept_when_the_first_one_is_published(tmp_path, models):
    first = publish(tmp_path, models, "a")
    shutil.rmtree(models / "versions")
    (models / "best.xml").unlink()  # as in a repository: it can be made of the `.h5`
    second = publish(tmp_path, models, "b")
    assert set(list_versions(models)) == {second, first}
    assert resolve_version(models, first).h5.read_text() == "a"


def test_who_wants_no_older_one_gets_an_error(tmp_path, models):
    old, _ = (publish(tmp_path, models, text) for text in "ab")
    (models / "best.json").write_text("{")
    assert resolve_version(models).version != old
    with pytest.raises(ArtifactError, match="that can be served"):
        resolve_version(models, or_older=False)


def test_a_version_that_was_half_removed_is_none(tmp_path, models):
    half, whole = (publish(tmp_path, models, text) for text in "ab")
    (models / "versions" / half / "best.json").unlink()
    assert list_versions(models) == [whole]
    publish(tmp_path, models, "c")


def test_publishing_again_is_no_new_version(tmp_path, models):
    version = publish(tmp_path, models, "a")
    assert publish_version(tmp_path / "run-a", models) == version
    assert list_versions(models) == [version]


@pytest.mark.parametrize("good", [0, 1, 4])
def test_a_full_disk_leaves_the_old_version_and_no_parts(good, tmp_path, models, monkeypatch):
    old = publish(tmp_path, models, "a")
    copyfile, left = shutil.copyfile, iter(range(good))

    def write_half(source, target):
        if next(left, None) is None:
            Path(target).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", write_half)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path, models, "b")
    assert not list(models.rglob("*.part*")) and resolve_version(models).version == old


def test_a_half_written_model_leaves_the_old_one(tmp_path, models):
    old = publish(tmp_path, models, "a")
    # What a crash between two renames leaves behind.
    (models / "best.h5").write_text("half of b")
    assert resolve_version(models).version == old


def test_a_damaged_version_is_passed_over(tmp_path, models):
    old, new = publish(tmp_path, models, "a"), publish(tmp_path, models, "b")
    (models / "best.h5").write_text("x")
    (models / "versions" / new / "best.h5").write_text("x")
    assert resolve_version(models).version == old


def test_a_broken_card_is_passed_over(tmp_path, models):
    old = publish(tmp_path, models, "a")
    (models / "best.json").write_text("{")
    assert resolve_version(models).version == old


def test_an_unreadable_card_is_passed_over(tmp_path, models, monkeypatch):
    old = publish(tmp_path, models, "a")
    opened = Path.open

    def open_others(path, *args, **how):
        return (refuse if path == models / "best.json" else opened)(path, *args, **how)

    monkeypatch.setattr(Path, "open", open_others)
    assert resolve_version(models).version == old


def test_a_model_without_versions_is_served_beside_its_card(tmp_path, models):
    publish(tmp_path, models, "a")
    assert resolve_version(tmp_path / "run-a").folder == tmp_path / "run-a"


def test_nothing_to_serve_says_why(tmp_path):
    with pytest.raises(ArtifactError, match=r"no best.h5 and no best.json"):
        resolve_version(tmp_path)
    (tmp_path / "best.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"`schema_version` must be in best.json"):
        resolve_version(tmp_path)


@pytest.mark.parametrize("name", ["..", "a/b", "", "ABCDEF012345", "0" * 13])
def test_a_version_is_never_a_path(name, models):
    with pytest.raises(ArtifactError, match="12 hex digits"):
        resolve_version(models, name)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a\\b", "c:x"])
def test_a_card_cannot_list_files_elsewhere(name, tmp_path, models):
    publish(tmp_path, models, "a")
    run = tmp_path / "run-a"
    digest = hash_file(run / "best.h5")
    files = {"best.h5": digest, name: digest}
    write_card(run, CARD | {"version": digest[:12], "files": files})
    with pytest.raises(ArtifactError, match="inside its folder"):
        publish_version(run, models)


def test_with_a_key_only_signed_versions_are_served(tmp_path, models):
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    signed = publish(tmp_path, models, "a", key)
    files = resolve_version(models, public_key=public)
    assert files.signed and files.version == signed
    publish(tmp_path, models, "b")
    # An unsigned card, as anybody could put there.
    (models / "best.json.sig").unlink(missing_ok=True)
    assert resolve_version(models, public_key=public).version == signed


@pytest.mark.parametrize("has_card", [True, False])
def test_a_giant_h5_is_refused_unread(has_card, tmp_path, models, monkeypatch):
    publish(tmp_path, models, "a")
    run = tmp_path / "run-a"
    with (run / "best.h5").open("r+b") as file:
        file.truncate(2**40)
    if not has_card:
        (run / "best.json").unlink()
    monkeypatch.setattr(hashlib, "sha256", None)
    with pytest.raises(ArtifactError, match=r"`best\.h5` must be at most \d+ bytes"):
        resolve_version(run)


def test_a_bare_h5_is_described_by_itself(saved, tmp_path):
    (tmp_path / "best.h5").write_bytes(saved("cnn").path.read_bytes())
    files = resolve_version(tmp_path)
    assert files.version == saved("cnn").sha256[:12]
    assert files.card["architecture"] == "cnn"
    with pytest.raises(ArtifactError):
        resolve_version(tmp_path, public_key=bytes(32))
