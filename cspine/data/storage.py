"""Access to the files of a data set by name, in a folder or in a ZIP that is not unpacked.

Names use `/` everywhere. Links to folders are followed. Hidden files are left out, and so is the
`__MACOSX` folder of some ZIPs.
"""

from __future__ import annotations

import threading
import unicodedata
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from cspine.core.errors import DataError
from cspine.imaging.image_files import HIDDEN, is_hidden, list_folder, read_start

# The limit of the service, so that training uses no image that the service would refuse.
MAX_FILE_BYTES = 32 * 1024 * 1024
# Even a table of millions of rows is smaller than this limit.
MAX_TABLE_BYTES = 256 * 1024 * 1024


# zipfile raises RuntimeError if a member needs a password or has an unsupported compression.
_READ_ERRORS = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError)


class Storage(ABC):
    """The files below a root.

    `names` and `folders` (including empty folders) are sorted. `left_out` is name → reason, for
    hidden files and links that lead back.
    """

    def __init__(
        self, root: Path, names: Iterable[str], folders: Iterable[str], left_out: Mapping[str, str]
    ) -> None:
        self.root, self.left_out = root, dict(left_out)
        self.names, self.folders = sorted(names), sorted(folders)
        self._known = set(self.names)
        # Systems write accented letters in one character or in two (Unicode NFC, NFD).
        self._composed = {unicodedata.normalize("NFC", name): name for name in self.names}

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def find(self, name: str) -> str | None:
        """Return the stored name that is `name` in any Unicode normal form, None if none is."""
        return name if name in self else self._composed.get(unicodedata.normalize("NFC", name))

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return the bytes of `name`.

        Raises:
            DataError: `name` is not a file of the set, has more than `max_bytes`, or cannot be
                read.
        """
        # Only listed files are read, so that no name leads out of the root.
        if name not in self:
            raise DataError(f"`{self.root}` must hold the file `{name}`. Received: no such file")
        try:
            return self._load(name, max_bytes)
        except _READ_ERRORS as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"`{name}` must be readable. Received: {reason}") from error

    def read_start(self, name: str, count: int) -> bytes:
        """Return the first `count` bytes of a listed file; b"" if it cannot be read."""
        try:
            return self._load_start(name, count)
        except _READ_ERRORS:
            return b""

    @abstractmethod
    def _load(self, name: str, max_bytes: int) -> bytes:
        """Return the bytes of a listed file after checking its size."""

    @abstractmethod
    def _load_start(self, name: str, count: int) -> bytes:
        """Return the first bytes of a listed file."""


class FolderStorage(Storage):
    """A folder, whose complete content is listed once, when the object is made."""

    def __init__(self, root: Path) -> None:
        found = list_folder(root)
        super().__init__(root, found.files, found.folders, found.left_out)

    def _load(self, name: str, max_bytes: int) -> bytes:
        path = self.root / name
        _check_size(name, path.stat().st_size, max_bytes)
        return path.read_bytes()

    def _load_start(self, name: str, count: int) -> bytes:
        return read_start(self.root / name, count)


class ZipStorage(Storage):
    """A ZIP archive. Reads are serialised by a lock, so threads may share one instance."""

    def __init__(self, root: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(root)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"`{root}` must be a readable ZIP file. Received: {error}") from error
        self._lock = threading.Lock()
        # Some Windows tools write backslashes, which other systems take as part of a name.
        entries = {i.filename.replace("\\", "/"): i for i in self._zip.infolist()}
        self._entries = {name: i for name, i in entries.items() if not name.endswith("/")}
        # Many archives list only files, so the folders are found as parents of the entries.
        folders = {str(parent) for name in entries for parent in PurePosixPath(name).parents}
        folders |= {name.rstrip("/") for name in entries if name.endswith("/")}
        hidden = {name: HIDDEN for name in self._entries if is_hidden(name)}
        names = [name for name in self._entries if name not in hidden]
        folders = {name for name in folders if name != "." and not is_hidden(name)}
        super().__init__(root, names, folders, hidden)

    def _load(self, name: str, max_bytes: int) -> bytes:
        entry = self._entries[name]
        # The declared size is checked before anything is inflated.
        _check_size(name, entry.file_size, max_bytes)
        # The archive has one file handle, so two reads at once would move each other's position.
        with self._lock, self._zip.open(entry) as member:
            # No more than the declared size is inflated, in case that size is wrong.
            return member.read(entry.file_size)

    def _load_start(self, name: str, count: int) -> bytes:
        with self._lock, self._zip.open(self._entries[name]) as member:
            return member.read(count)


def open_storage(source: Path) -> Storage:
    """Return the storage of a folder or ZIP file.

    Raises:
        DataError: `source` is neither a folder nor a ZIP file.
    """
    if source.is_dir():
        return FolderStorage(source)
    if source.is_file() and source.suffix.lower() == ".zip":
        return ZipStorage(source)
    found = "a file of another kind" if source.exists() else "no such file or folder"
    raise DataError(f"`data` must be a folder, a ZIP or a CSV file. Received: {source} ({found})")


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DataError(f"`{name}` must have at most {max_bytes} bytes. Received: {size}")
