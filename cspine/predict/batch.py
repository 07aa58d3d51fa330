"""Find image files, classify them in parallel, and write the rows to a CSV that can be resumed.

An existing CSV is continued: files with an answer in it are not classified again.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ConfigError, CspineError, ImageError
from cspine.core.process import count_cores
from cspine.core.text import escape_name
from cspine.imaging.image_files import describe_left_out, find_reason, list_folder, read_start
from cspine.predict.prediction import Prediction
from cspine.predict.predictor import Predictor
from cspine.predict.reasons import OPENED

COLUMNS = tuple(
    (
        "path prediction probability threshold in_distribution region architecture "
        "version domain series slice reason why warnings error"
    ).split()
)
# Folders beside a `slices.csv` that hold masks, and twins (the same slices without fractures).
ASIDE = ("masks", "twins")
ASIDE_REASON = "a mask or twin of a synthetic set"
# The number of files that are read and classified at once is limited, to bound the memory.
_WINDOW = 64

Row = dict[str, str]


def find_images(paths: Iterable[Path]) -> tuple[list[Path], dict[str, str]]:
    """Return the image files in `paths` and in the folders in `paths`, and the files left out.

    Files of a folder are sorted, and told by their content; links to folders are followed. A file
    that is named itself is always returned. The second value is path → reason.

    Raises:
        ConfigError: a path does not exist, or no image is found.
    """
    # A dict keeps the order and drops repeated paths.
    found: dict[Path, None] = {}
    left_out: dict[str, str] = {}
    for path in paths:
        if not path.exists():
            raise ConfigError(f"A path must be an existing file or folder. Received: {path}")
        if not path.is_dir():
            found[path] = None
            continue
        content = list_folder(path)
        left_out |= {str(path / name): reason for name, reason in content.left_out.items()}
        for name in content.files:
            reason = (
                ASIDE_REASON
                if _is_aside(path / name)
                else find_reason(name, partial(read_start, path / name))
            )
            if reason is None:
                found[path / name] = None
            else:
                left_out[str(path / name)] = reason
    if not found:
        said = describe_left_out(left_out)
        raise ConfigError(f"The paths must hold PNG, JPEG or DICOM files. Received: none. {said}")
    return list(found), left_out


def _is_aside(path: Path) -> bool:
    """Return whether the path is a mask or a twin of a synthetic set, which has a `slices.csv`."""
    return path.parent.name in ASIDE and (path.parent.parent / "slices.csv").is_file()


def answer_files(predictor: Predictor, paths: Iterable[Path]) -> Iterator[Row]:
    """Yield one row for each file, in order; a file that cannot be classified has `error` set."""

    def answer(path: Path) -> Row:
        try:
            # Checked before reading, so that a huge file is not read.
            predictor.limits.check_bytes(path.stat().st_size)
            return _describe(path, predictor.predict(path.read_bytes()))
        except OSError as error:
            return _failure(path, ImageError(f"The file must be readable. Received: {error}"))
        except CspineError as error:
            return _failure(path, error)

    rest = iter(paths)
    # One thread more than cores reads the next file while all cores compute.
    pool = ThreadPoolExecutor(1 + count_cores())
    try:
        waiting = [pool.submit(answer, path) for path in islice(rest, _WINDOW)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(answer, path) for path in islice(rest, 1)]
    finally:
        # After an interruption, files that were not begun are cancelled.
        pool.shutdown(cancel_futures=True)


def _describe(path: Path, prediction: Prediction) -> Row:
    return {
        "path": escape_name(path),
        "prediction": prediction.prediction,
        "probability": "" if prediction.probability is None else f"{prediction.probability:.6f}",
        "threshold": f"{prediction.threshold:.6f}",
        "in_distribution": str(prediction.in_distribution).lower(),
        "region": "" if prediction.region is None else " ".join(map(str, prediction.region)),
        "architecture": prediction.architecture,
        "version": prediction.version,
        "domain": prediction.domain,
        "series": _hash_uid(prediction.series_uid),
        "slice": _hash_uid(prediction.instance_uid),
        "reason": "" if prediction.reason is None else prediction.reason.code,
        "why": "" if prediction.reason is None else prediction.reason.sentence,
        "warnings": " ".join(prediction.warnings),
        "error": "",
    }


def _hash_uid(uid: str | None) -> str:
    """Return a pseudonym of a UID; it groups slices but does not show the hospital."""
    return "" if uid is None else hashlib.sha256(uid.encode()).hexdigest()[:12]


def _failure(path: Path, error: CspineError) -> Row:
    return {
        **dict.fromkeys(COLUMNS, ""),
        "path": escape_name(path),
        "error": escape_name(str(error)),
    }


class ResumableCsv:
    """A CSV of rows that survives an interruption, since each row is written at once.

    Args:
        path: the file; an existing file is continued.
        version: the model's version, which every row of an existing file must have.
        is_opened: whether the model answers under `CSPINE_ANSWER_SYNTHETIC`; the answers in an
            existing file must have been given with the same setting.

    Raises:
        ConfigError: the file holds something else or answers of another model or setting, or its
            folder is missing.
    """

    def __init__(self, path: Path, version: str, is_opened: bool = False) -> None:
        self._path = path
        if not path.parent.is_dir():
            raise ConfigError(f"The folder of `--csv` must exist. Received: {path.parent}")
        self.rows = self._read(version, is_opened) if path.exists() else []
        self._rewrite()

    def _read(self, version: str, is_opened: bool) -> list[Row]:
        # A file that this command did not write must not be overwritten by mistake.
        text = self._path.read_text(encoding="utf-8", errors="replace")
        heading, (first, newline, _) = ",".join(COLUMNS), text.partition("\n")
        # After an interruption, even the heading may be incomplete.
        if first.strip() != heading if newline else not heading.startswith(first):
            raise ConfigError(
                f"`--csv` must be a file that this command wrote. Received: {self._path}"
            )
        # An incomplete last row is dropped, and its file is classified again.
        whole = text[: text.rfind("\n") + 1]
        rows = list(csv.DictReader(io.StringIO(whole)))
        # Answers of several models must not be mixed. Rows of failed files name no version.
        others = {row["version"] for row in rows} - {version, ""}
        if others:
            raise ConfigError(
                f"`--csv` must hold answers of model {version}. Received: {', '.join(others)}"
            )
        answered = [row for row in rows if not row["error"]]
        if any((OPENED in row["warnings"]) != is_opened for row in answered):
            raise ConfigError(
                "`--csv` must hold answers given with the same CSPINE_ANSWER_SYNTHETIC setting. "
                f"Received: {self._path}"
            )
        # Rows of failed files are left out, so that those files are tried again.
        return answered

    def _rewrite(self) -> None:
        """Replace the file by one that holds only the kept rows."""
        with (
            written_whole(self._path) as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def add(self, row: Row) -> None:
        """Append one row."""
        self.rows.append(row)
        # The file is closed after each row, so that a killed run loses no row.
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
