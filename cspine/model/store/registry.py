"""Kept versions of a model: publish a complete version, switch to it by one rename, find its files.

`models/versions/<first 12 hex digits of the .h5's SHA-256>/` is written once and never changed;
`models/best.h5` and the other files beside it are copies; `models/best.json` names the version and
is replaced last.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cspine.core.atomic_write import written_folder, written_whole
from cspine.core.errors import ArtifactError, quote
from cspine.model.store.card import CARD_NAME, SCHEMA_VERSION, SIGNATURE_NAME, load_card
from cspine.model.store.hashes import hash_file

logger = logging.getLogger(__name__)

H5_NAME = "best.h5"
VERSIONS_FOLDER = "versions"
# 48 bits only name a version; a served model is checked by its full hash.
VERSION_LENGTH = 12
# The version being served, the one before it, and one that was rolled back.
KEPT_VERSIONS = 3


@dataclass(frozen=True)
class ModelFiles:
    """One version whose `.h5` has the hash that its card gives.

    `folder` holds the files; `h5` is the path of `best.h5` and `h5_sha256` its hash in hex;
    `version` is the first 12 digits of this hash; `signed` is whether the card's signature was
    verified. Other files in `folder` belong to this version only if the card lists their hashes.
    """

    folder: Path
    h5: Path
    h5_sha256: str
    version: str
    card: Mapping[str, Any]
    signed: bool = False

    def listed_hash(self, name: str) -> str | None:
        """Return the SHA-256 that the card gives for the file `name`, or None."""
        value = self.card.get("files", {}).get(name)
        return value if isinstance(value, str) else None


def list_versions(models_dir: Path) -> list[str]:
    """Return the names of the kept versions, the latest first."""
    root = models_dir / VERSIONS_FOLDER
    folders = [one for one in root.glob("*") if _is_kept(one)] if root.is_dir() else []
    # By the card's time, since writing a signature later would change the folder's time.
    by_age = sorted(folders, key=lambda one: (one / CARD_NAME).stat().st_mtime_ns, reverse=True)
    return [one.name for one in by_age]


def _is_kept(folder: Path) -> bool:
    """Return whether this is a complete version; an interrupted removal may leave a part of one."""
    return _is_version(folder.name) and (folder / CARD_NAME).is_file()


def _is_version(name: str) -> bool:
    return len(name) == VERSION_LENGTH and set(name) <= set("0123456789abcdef")


def publish_version(run_dir: Path, models_dir: Path) -> str:
    """Publish a run's files as the version that is served; return the version's name.

    `run_dir` holds `best.json` and every file that its `files` lists. They are copied to
    `versions/<name>/` and then to `models_dir`, `best.json` last. The three latest versions are
    kept; a model that is in `models_dir` but not yet in `versions/` is first added to them.

    Raises:
        ArtifactError: a listed file is missing or has another hash than the card gives.
    """
    card = check_listed(run_dir)
    version = str(card["files"][H5_NAME])[:VERSION_LENGTH] if H5_NAME in card["files"] else ""
    if not version or version != card["version"]:
        raise ArtifactError(
            f"`version` must be the first 12 digits of the SHA-256 of {H5_NAME}, `{version}`. "
            f"Received: {quote(card['version'])}"
        )
    # The card is copied last, because readers watch it for changes.
    names = [*card["files"], *([SIGNATURE_NAME] if (run_dir / SIGNATURE_NAME).is_file() else [])]
    _keep_current(models_dir)
    _keep_version(run_dir, models_dir / VERSIONS_FOLDER / version, [*names, CARD_NAME])
    copy_files(run_dir, models_dir, [*names, CARD_NAME])
    for old in list_versions(models_dir)[KEPT_VERSIONS:]:
        shutil.rmtree(models_dir / VERSIONS_FOLDER / old)
    return version


def _keep_current(models_dir: Path) -> None:
    """Add the model in the folder to the kept versions, if there is one that is not kept yet."""
    try:
        files = _open_folder(models_dir, None)
    except ArtifactError:
        return
    target = models_dir / VERSIONS_FOLDER / files.version
    if not target.exists():
        # Listed files may be missing, such as other precisions, since the `.h5` is enough to serve.
        listed = [*files.card["files"], SIGNATURE_NAME]
        names = [name for name in listed if (models_dir / name).is_file()]
        _keep_version(models_dir, target, [*names, CARD_NAME])


def _keep_version(run_dir: Path, target: Path, names: list[str]) -> None:
    """Copy a run's files into a new folder and rename it to `target`, which is then complete."""
    with written_folder(target, replace=True) as part:
        copy_files(run_dir, part, names)


def check_listed(folder: Path) -> dict[str, Any]:
    """Return the card of a folder that holds every file the card lists, each with its hash.

    Raises:
        ArtifactError: there is no valid card, or a listed file is missing or differs.
    """
    card = load_card(folder)
    for name, digest in card["files"].items():
        _require(folder, name, digest)
    return card


def _require(folder: Path, name: str, digest: str) -> None:
    """Refuse a listed file whose path leaves the folder, or which is missing or differs."""
    pure = PurePosixPath(name)
    # Hashing a file such as `../../etc/passwd` would confirm a guess of its content.
    # On Windows, backslashes and colons can leave the folder as well.
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise ArtifactError(
            f"A card must list only files inside its folder. Received: {quote(name)}"
        )
    path = folder / pure
    try:
        is_listed = path.is_file() and hash_file(path) == digest
    except OSError as error:
        raise ArtifactError(f"`{name}` must be readable. Received: {error.strerror}") from error
    if not is_listed:
        raise ArtifactError(
            f"`{name}` must have the SHA-256 that its card lists. Received: another file, or none"
        )


def copy_files(source: Path, target: Path, names: list[str]) -> None:
    """Copy files one by one in the given order; each is written under another name, then renamed.

    Raises:
        OSError: a file could not be written; no incomplete file is left.
    """
    for name in names:
        with written_whole(target / name) as part:
            shutil.copyfile(source / name, part)


def resolve_version(
    models_dir: Path,
    version: str | None = None,
    public_key: bytes | None = None,
    or_older: bool = True,
) -> ModelFiles:
    """Return the files to serve: those `best.json` names, else the latest version that is valid.

    With `version`, only that kept version is tried. Without `or_older`, only the version that
    `best.json` names is tried: a service that reloads already has a model, so it should not switch
    to a third one if the new one is bad. With `public_key` (raw Ed25519, 32 bytes) the card must be
    signed by this key. If a folder holds `best.h5` but no card, the facts in the `.h5` are used.

    Raises:
        ArtifactError: there is nothing that can be served; the message gives each folder's reason.
    """
    if version is not None and not _is_version(version):
        raise ArtifactError(f"A version must be 12 hex digits. Received: {quote(version)}")
    reasons = []
    for folder in _folders(models_dir, version, or_older):
        try:
            return _open_folder(folder, public_key)
        except ArtifactError as error:
            reasons.append(str(error))
            logger.warning("%s is skipped: %s", folder, error)
    # With a key, a model without a card is refused, because an attacker could delete the card.
    bare = (models_dir / H5_NAME).is_file() and not (models_dir / CARD_NAME).exists()
    if bare and version is None and public_key is None:
        return _describe_bare(models_dir / H5_NAME)
    found = "; ".join(dict.fromkeys(reasons)) or f"no {H5_NAME} and no {CARD_NAME}"
    raise ArtifactError(f"{models_dir} must hold a model that can be served. Received: {found}")


def _folders(models_dir: Path, version: str | None, or_older: bool) -> Iterator[Path]:
    """Yield the folders to try, each once, the best first."""
    kept = models_dir / VERSIONS_FOLDER
    if version is not None:
        yield kept / version
        return
    current = None
    if (models_dir / CARD_NAME).is_file():
        # An error in the card is reported when `_open_folder` opens the folder.
        with suppress(ArtifactError):
            current = load_card(models_dir)["version"]
        if current is not None and _is_version(current) and (kept / current).is_dir():
            # The kept folder comes before the copy in `models_dir`, because it never changes.
            yield kept / current
        yield models_dir
    if or_older:
        yield from (kept / name for name in list_versions(models_dir) if name != current)


def _open_folder(folder: Path, public_key: bytes | None) -> ModelFiles:
    """Return the files of one folder, if its card is valid and its `.h5` has the card's hash."""
    card = load_card(folder, public_key)
    digest = card["files"].get(H5_NAME)
    if not isinstance(digest, str):
        raise ArtifactError(f"A card must list the SHA-256 of {H5_NAME}. Received: none")
    _require(folder, H5_NAME, digest)
    return ModelFiles(
        folder=folder,
        h5=folder / H5_NAME,
        h5_sha256=digest,
        version=digest[:VERSION_LENGTH],
        card=card,
        signed=public_key is not None,
    )


def _describe_bare(h5: Path) -> ModelFiles:
    """Return the files of a `best.h5` without a card, with a card made from the facts in it."""
    from cspine.model.store.weights_file import read_h5

    digest = hash_file(h5)
    version = digest[:VERSION_LENGTH]
    own = {"schema_version": SCHEMA_VERSION, "version": version, "files": {H5_NAME: digest}}
    return ModelFiles(
        folder=h5.parent,
        h5=h5,
        h5_sha256=digest,
        version=version,
        card={**read_h5(h5).facts, **own},
    )
