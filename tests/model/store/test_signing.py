"""Signing after training: what is signed is served with the key, what was changed is not."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cspine.core.errors import ArtifactError, ConfigError
from cspine.model.store.registry import resolve_version
from cspine.model.store.signing import read_private_key, sign_models
from support.cards import publish

ROOT = Path(__file__).parents[3]
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


def test_a_signed_model_is_the_one_that_is_served(tmp_path, models):
    version = publish(tmp_path, models, "a")
    with pytest.raises(ArtifactError, match=r"must have best.json.sig"):
        resolve_version(models, public_key=PUBLIC)
    before = (models / "best.json").stat().st_ino
    assert sign_models(models, KEY) == version
    # A running service looks again.
    assert (models / "best.json").stat().st_ino != before
    files = resolve_version(models, public_key=PUBLIC)
    assert files.signed and files.folder == models / "versions" / version
    assert resolve_version(models, version, PUBLIC).version == version


def test_until_the_next_model_is_signed_the_old_one_is_served(tmp_path, models):
    old = publish(tmp_path, models, "a")
    sign_models(models, KEY)
    new = publish(tmp_path, models, "b")
    assert resolve_version(models, public_key=PUBLIC).version == old
    assert sign_models(models, KEY) == new
    assert resolve_version(models, public_key=PUBLIC).version == new


def test_a_changed_file_is_not_signed(tmp_path, models):
    publish(tmp_path, models, "a")
    (models / "best.xml").write_text("another")
    with pytest.raises(ArtifactError, match=r"`best.xml` must have the SHA-256"):
        sign_models(models, KEY)
    assert not (models / "best.json.sig").exists()


def test_a_card_changed_after_signing_is_refused(tmp_path, models):
    version = publish(tmp_path, models, "a")
    sign_models(models, KEY)
    for folder in (models, models / "versions" / version):
        text = (folder / "best.json").read_text()
        (folder / "best.json").write_text(text.replace('"image_size": 192', '"image_size": 224'))
    with pytest.raises(ArtifactError, match="signed with the private key"):
        resolve_version(models, public_key=PUBLIC)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def test_the_command_reads_what_openssl_writes(tmp_path, models):
    publish(tmp_path, models, "a")
    key = tmp_path / "card-key.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(key))
    command = [sys.executable, "-m", "cspine", "sign", str(models), "--key", str(key)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Signed version" in done.stderr
    public = read_private_key(key).public_key().public_bytes_raw()
    assert resolve_version(models, public_key=public).signed


def test_the_image_gets_the_signature_too():
    assert "!models/best.json.sig" in (ROOT / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize(
    "options",
    [("-algorithm", "ed448"), ("-algorithm", "ed25519", "-aes256", "-pass", "pass:word"), None],
)
def test_another_key_is_refused_in_words(options, tmp_path):
    path = tmp_path / "key.pem"
    if options:
        openssl("genpkey", *options, "-out", str(path))
    with pytest.raises(ConfigError, match=r"Ed25519 private key without a passphrase.*Received"):
        read_private_key(path)
