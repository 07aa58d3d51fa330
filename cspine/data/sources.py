"""Data set of a `--data` argument: a folder, ZIP or CSV, `phantom`, `kaggle`, or none.

The caller prints the line that says which data set is used and why.
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
        argument: a path, `phantom`, `kaggle`, or None: `data/` if it has a known layout, else the
            phantom set.
        build_dir: where the phantom set is written, once for each configuration.
        phantom: the phantom set's configuration, by default `PhantomConfig()`.
        skip_unreadable: leave out files that cannot be read; see `index_dataset`.
        default_folder: the folder that is looked for if `argument` is None.

    Raises:
        DataError: the set cannot be read or downloaded, or is not sound.
    """
    # Only if its layout is known: a `data/` of something else is not meant.
    if argument is None and _is_known(default_folder):
        source, why = default_folder, f"{default_folder}/, because it has a known layout"
    elif argument is None or argument == "phantom":
        source = write_phantom_once(build_dir, phantom or PhantomConfig())
        because = f"because no --data was given and {default_folder}/ has none"
        why = f"the synthetic phantom set in {source}, {'as asked' if argument else because}"
        # Its files were written here: one that cannot be read is an error.
        skip_unreadable = False
    elif argument == "kaggle":
        source, why = download_kaggle(), f"the published set {KAGGLE_SET}, downloaded"
    else:
        source, why = Path(argument).expanduser(), f"{argument}, as asked"
    dataset = index_dataset(source, skip_unreadable)
    patients = len({record.patient_id for record in dataset.records})
    slices = len({record.slice_id for record in dataset.records})
    counts = f"{len(dataset.records)} files, {slices} slices, {patients} patients"
    unboxed = describe_unboxed(len(dataset.unboxed_studies))
    return dataset, f"Data: {why}. {counts} ({dataset.layout} layout). {unboxed}".rstrip()


def write_phantom_once(build_dir: Path, config: PhantomConfig) -> Path:
    """Return the folder of the grouped phantom set of `config`, written if it does not exist."""
    # The folder depends on the phantom's version, which is in the configuration, and on the mark,
    # which is in the files.
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
    except Exception as error:  # of kagglehub, of its HTTP library, of the operating system
        # One line, however many the error has.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"`data` kaggle must be downloadable (network, and an account where the site asks for "
            f"one). Received: {reason}. {advice}"
        ) from error


def _is_known(folder: Path) -> bool:
    """Return whether `folder` has a layout that cspine reads; its files are checked later."""
    if not folder.is_dir():
        return False
    try:
        # By names alone: the files are checked when they are used.
        storage = open_storage(folder)
        if find_table(storage) is not None or find_rsna(storage) is not None:
            return True
        _, records, faults = index_tree(storage)
        # With faults and one class alone, the class folder is a coincidence. With faults and both
        # classes it is a data set whose faults are to be reported.
        return not faults or len({record.label for record in records}) > 1
    except DataError:
        return False
