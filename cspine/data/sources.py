"""What `--data` means: a folder, ZIP or CSV, or the words `phantom` and `kaggle`, or nothing.

Knows nothing of training; it says which data set is used and why, for the caller to print.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from cspine.core.errors import DataError
from cspine.core.synthetic_mark import PNG_TEXT
from cspine.data.index import index_dataset
from cspine.data.layouts.class_folders import find_table, index_tree
from cspine.data.layouts.rsna import describe_unboxed, find_rsna
from cspine.data.records import Dataset
from cspine.data.storage import open_storage
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped

KAGGLE_SET = "vuppalaadithyasairam/spine-fracture-prediction-from-xrays"
DEFAULT_FOLDER = Path("data")


def resolve_data(
    argument: str | None,
    build_dir: Path = Path("build"),
    phantom: PhantomConfig | None = None,
    skip_unreadable: bool = False,
    default_folder: Path = DEFAULT_FOLDER,
) -> tuple[Dataset, str]:
    """Return the data set that `--data` names, and one line that says which it is and why.

    Args:
        argument: a path, `phantom`, `kaggle`, or None: `data/` where a known layout lies there,
            else the phantom set.
        build_dir: where the phantom set is written, once for each configuration.
        phantom: the phantom set's configuration, by default `PhantomConfig()`.
        skip_unreadable: see `index_dataset`.

    Raises:
        DataError: the set cannot be had or is not sound.
    """
    # Only where a layout is known: a `data/` of something else is none of our business.
    if argument is None and _is_known(default_folder):
        dataset = index_dataset(default_folder, skip_unreadable)
        return (
            dataset,
            f"Data: {default_folder}/, because a known layout lies there. {_say(dataset)}",
        )
    if argument is None or argument == "phantom":
        folder = write_phantom_once(build_dir, phantom or PhantomConfig())
        dataset = index_dataset(folder)
        why = (
            "as asked"
            if argument
            else f"because no --data was given and {default_folder}/ has none"
        )
        return dataset, f"Data: the synthetic phantom set in {folder}, {why}. {_say(dataset)}"
    if argument == "kaggle":
        dataset = index_dataset(download_kaggle(), skip_unreadable)
        return dataset, f"Data: the published set {KAGGLE_SET}, downloaded. {_say(dataset)}"
    dataset = index_dataset(Path(argument).expanduser(), skip_unreadable)
    return dataset, f"Data: {argument}, as asked. {_say(dataset)}"


def write_phantom_once(build_dir: Path, config: PhantomConfig) -> Path:
    """Return the folder of the grouped phantom set of `config`, written if it is not there."""
    # The phantom's version is in the configuration, and the mark is in the files: another one of
    # either is another folder.
    asked = f"{sorted(asdict(config).items())!r} {PNG_TEXT}"
    key = hashlib.sha256(asked.encode()).hexdigest()[:12]
    folder = build_dir / f"phantom-{key}"
    if not (folder / "phantom.json").is_file():
        write_grouped(folder, config)
    return folder


def download_kaggle() -> Path:
    """Download the published set with kagglehub, or find it in its cache; return its folder.

    Raises:
        DataError: kagglehub is not installed, or the download fails for any reason.
    """
    advice = "Download it from the set's page by hand instead, and give the ZIP: --data archive.zip"
    try:
        # Optional, and importing it may touch its configuration.
        import kagglehub
    except ImportError as error:
        raise DataError(
            f"`data` kaggle needs the package kagglehub. Received: {error}. {advice}"
        ) from error
    try:
        return Path(kagglehub.dataset_download(KAGGLE_SET))
    except Exception as error:  # kagglehub's own, its HTTP library's, the operating system's
        # One line, however many the error has.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"`data` kaggle must be downloadable (network, and an account where the site asks for "
            f"one). Received: {reason}. {advice}"
        ) from error


def _is_known(folder: Path) -> bool:
    """Whether a layout that cspine knows lies in `folder`; its files are checked later."""
    if not folder.is_dir():
        return False
    try:
        # Names alone: whether the files are sound is asked, and told, when they are used.
        storage = open_storage(folder)
        if find_table(storage) is not None or find_rsna(storage) is not None:
            return True
        _, records, faults = index_tree(storage)
        # With faults and one class it is something else, whose class folder is a chance; with
        # both it is a set, whose faults are told, not passed over for another set.
        return not faults or len({record.label for record in records}) > 1
    except DataError:
        return False


def _say(dataset: Dataset) -> str:
    patients = len({record.patient_id for record in dataset.records})
    slices = len({record.slice_id for record in dataset.records})
    files = len(dataset.records)
    said = f"{files} files, {slices} slices, {patients} patients ({dataset.layout} layout)."
    return f"{said} {describe_unboxed(len(dataset.unboxed_studies))}".rstrip()
