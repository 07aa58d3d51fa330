"""Finder of image files: it decides by content which files are images, and why others are not.

Training, audit, evaluation and `predict` all ask it, so that they agree. Suffixes are not trusted:
browsers write `.jfif`, archives write `.dicom` or no suffix at all. A file with the suffix of an
image and another content counts as an image that cannot be read, since somebody expected one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cspine.core.errors import DataError
from cspine.core.text import count_noun, escape_name
from cspine.imaging.decode import name_format
from cspine.imaging.dicom.elements import is_dicom
from cspine.imaging.image_headers import JPEG_SIGNATURE, PNG_SIGNATURE

# Enough to tell any format, and a text by its beginning.
START_BYTES = 1024
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".dcm", ".dicom", ".ima")
# Images of formats that cannot be read: a user who puts them into a class folder must be told.
OTHER_SUFFIXES = (".bmp", ".gif", ".jp2", ".tif", ".tiff", ".webp")
HIDDEN = "a hidden file"
LOOP = "a link to a folder that holds it"
_SHOWN = 3


def find_reason(name: str, read_start: Callable[[int], bytes]) -> str | None:
    """Return why a file is no image, None if it is one or was meant to be one.

    Args:
        name: the file's path or name, `/` between its parts.
        read_start: returns the file's first bytes, at most as many as it is given. It is called
            only if the name does not decide.
    """
    path = PurePosixPath(name)
    # DICOMDIR, the index file of a DICOM medium (PS3.10), holds no picture.
    if path.name.upper() == "DICOMDIR":
        return "the index of a DICOM medium"
    if path.suffix.lower() in (*IMAGE_SUFFIXES, *OTHER_SUFFIXES):
        return None
    start = read_start(START_BYTES)
    if is_image(start):
        return None
    return name_format(start) if start else "an empty or unreadable file"


def read_start(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, at most `count`; b"" if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def is_image(start: bytes) -> bool:
    """Return whether a file's first bytes are those of a PNG, JPEG or DICOM file."""
    return start.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)) or is_dicom(start)


def is_hidden(name: str) -> bool:
    """Return whether a relative path leads through a hidden file or folder."""
    parts = PurePosixPath(name).parts
    # In `__MACOSX`, the macOS Finder adds a companion to each file: same suffix, but no picture.
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


@dataclass(frozen=True)
class FolderContent:
    """All files and folders below a folder, as sorted relative paths with `/`.

    `left_out` is path → reason, for hidden files and folders, and for links that lead back.
    """

    files: list[str]
    folders: list[str]
    left_out: dict[str, str]


def list_folder(root: Path) -> FolderContent:
    """Return what is below a folder; links to folders are followed, but none to a folder above it.

    Broken links are among the files, so that reading one fails with its name.

    Raises:
        DataError: a folder cannot be read.
    """
    found = FolderContent([], [], {})
    for folder, names, files in os.walk(root, onerror=_refuse, followlinks=True):
        here = Path(folder)
        prefix = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        above = {here.resolve(), *here.resolve().parents}
        for name in (*files, *names):
            is_loop = name in names and (here / name).is_symlink()
            if is_hidden(name):
                found.left_out[prefix + name] = HIDDEN
            elif is_loop and (here / name).resolve() in above:
                found.left_out[prefix + name] = LOOP
            else:
                (found.folders if name in names else found.files).append(prefix + name)
        names[:] = [name for name in names if prefix + name not in found.left_out]
    found.files.sort()
    found.folders.sort()
    return found


def _refuse(error: OSError) -> None:
    raise DataError(
        f"`{escape_name(str(error.filename))}` must be a readable folder. "
        f"Received: {error.strerror}"
    ) from error


def describe_left_out(left_out: Mapping[str, str]) -> str:
    """Return a sentence that counts the files that were left out by reason, with examples.

    It is "" if there are none.
    """
    if not left_out:
        return ""
    parts = []
    for reason, count in Counter(left_out.values()).most_common():
        names = sorted(escape_name(name) for name, why in left_out.items() if why == reason)
        more = ", …" if count > _SHOWN else ""
        parts.append(f"{count} {reason} ({', '.join(names[:_SHOWN])}{more})")
    return f"Left out {count_noun(len(left_out), 'file')}: {'; '.join(parts)}."
