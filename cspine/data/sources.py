"""Finder of the data set that a `--data` argument names: a path, `phantom`, `kaggle` or none.

The caller prints the line that says which data set is used and why.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from cspine.core.errors import DataError
from cspine.core.synthetic_mark import PNG_TEXT
from cspine.data.index import index_dataset
from cspine.data.layouts.class_folders import find_other_files, find_table
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
    accept_blank: bool = False,
    default_folder: Path = DEFAULT_FOLDER,
) -> tuple[Dataset, str]:
    """Return the data set that `--data` names, and one line that says which set it is and why.

    Args:
        argument: a path, `phantom` or `kaggle`; None stands for the default folder if it holds
            images or a table, else for the phantom set.
        build_dir: where the phantom set is written, once for each configuration.
        phantom: the phantom set's configuration, by default `PhantomConfig()`.
        skip_unreadable, accept_blank: see `index_dataset`.
        default_folder: the folder to try if `argument` is None.

    Raises:
        DataError: the set cannot be read or downloaded, or has faults.
    """
    if argument is None and _holds_data(default_folder):
        source, why = default_folder, f"{default_folder}/, because it holds images"
    elif argument is None or argument == "phantom":
        source = write_phantom_once(build_dir, phantom or PhantomConfig())
        because = f"because no --data was given and {default_folder}/ holds no images"
        why = f"the synthetic phantom set in {source}, {'as requested' if argument else because}"
        # This program wrote the phantom's files, so an unreadable file is always an error.
        skip_unreadable = False
    elif argument == "kaggle":
        source, why = download_kaggle(), f"the published set {KAGGLE_SET}, downloaded"
    else:
        source, why = Path(argument).expanduser(), f"{argument}, as requested"
    try:
        dataset = index_dataset(source, skip_unreadable, accept_blank)
    except DataError as error:
        if argument is not None:
            raise
        # The user named no data, and may not know that this folder was found.
        raise DataError(f"{default_folder}/: {error}. Or use --data phantom") from error
    patients = len({record.patient_id for record in dataset.records})
    slices = len({record.slice_id for record in dataset.records})
    counts = f"{len(dataset.records)} files, {slices} slices, {patients} patients"
    unboxed = describe_unboxed(len(dataset.unboxed_studies))
    return dataset, f"Data: {why}. {counts} ({dataset.layout} layout). {unboxed}".rstrip()


def write_phantom_once(build_dir: Path, config: PhantomConfig) -> Path:
    """Return the folder of the grouped phantom set of `config`; write the set if it is missing."""
    # The folder's name depends on the configuration, which includes the phantom's version, and on
    # the mark that is written into the files.
    asked = f"{sorted(asdict(config).items())!r} {PNG_TEXT}"
    key = hashlib.sha256(asked.encode()).hexdigest()[:12]
    folder = build_dir / f"phantom-{key}"
    if not (folder / "phantom.json").is_file():
        write_grouped(folder, config)
    return folder


def download_kaggle() -> Path:
    """Return the folder of the Kaggle set; kagglehub downloads it unless its cache holds the set.

    Raises:
        DataError: kagglehub is not installed, or the download fails for any reason.
    """
    advice = "Or download the ZIP file from the set's page and use --data archive.zip"
    try:
        # kagglehub is optional, and importing it may access its configuration files.
        import kagglehub
    except ImportError as error:
        raise DataError(
            f"`data` kaggle needs the package kagglehub. Received: {error}. {advice}"
        ) from error
    try:
        return Path(kagglehub.dataset_download(KAGGLE_SET))
    except Exception as error:  # kagglehub, its HTTP library or the operating system may fail
        # The message is one line, even if the error has several.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"`data` kaggle needs a download (network access, and an account if the site asks for "
            f"one). Received: {reason}. {advice}"
        ) from error


def _holds_data(folder: Path) -> bool:
    """Return whether a folder holds a table or any image, in whatever layout.

    Synthetic images never replace it then, even if its layout or its files cannot be read: the
    fault is reported instead.
    """
    if not folder.is_dir():
        return False
    storage = open_storage(folder)
    if find_table(storage) is not None or find_rsna(storage) is not None:
        return True
    return len(find_other_files(storage)) < len(storage.names)
