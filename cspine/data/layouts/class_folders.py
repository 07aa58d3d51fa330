"""Reader of trees of class folders, which finds the layout and makes a record of each image.

A tree is `{fracture,normal}/*` or `{train,val,test}/{fracture,normal}/*`, in any letter case, at
the root or below one common folder. A tree is taken for the published Kaggle set, whose `val` is
the test set, on two conditions: it has no splits but `train` and `val`, and it is either in a
folder named `cervical fracture` or has only names that begin as the published ones do.
`find_table` finds a set's `slices.csv`. No pixels are read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from cspine.core.errors import DataError
from cspine.core.labels import CLASS_NAMES
from cspine.data.layouts.filenames import identify_file, parse_published
from cspine.data.records import SliceRecord
from cspine.data.storage import Storage
from cspine.imaging.image_files import OTHER_SUFFIXES, find_reason

# Common names of the split folders, including those of Keras and of the published set.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# The folder `val` of the published set was only ever used for testing.
PUBLISHED_SPLITS = SPLIT_NAMES | {"val": "test"}
PUBLISHED_FOLDER = "cervical fracture"
EXPECTED = (
    "{fracture,normal}/*.png, {train,val,test}/{fracture,normal}/*.png (the published set is one), "
    "a slices.csv with `path` and `label`, or RSNA 2022's train.csv and train_images/"
)


@dataclass(frozen=True)
class _TreePath:
    """The parts of the path of an image in a tree.

    `above` is the folder that holds the tree. `split` is the split's folder in lower case, or "" if
    there is none.
    """

    path: str
    above: str
    split: str
    class_name: str

    @property
    def folder(self) -> tuple[str, str, str]:
        """A key of the class folder that does not depend on upper and lower case."""
        return self.above, self.split, self.class_name


def find_table(storage: Storage) -> str | None:
    """Return the name of the set's `slices.csv`, at the root or in one folder below, or None."""
    names = [name for name in storage.names if name.count("/") <= 1]
    tables = [name for name in names if PurePosixPath(name).name == "slices.csv"]
    # If there are two tables, it is unknown which of them describes the set.
    return tables[0] if len(tables) == 1 else None


def index_tree(storage: Storage) -> tuple[str, list[SliceRecord], list[str], dict[str, str]]:
    """Return a tree's layout, a record of each image, the faults, and the files left out.

    The layout is `kaggle`, `tree` or `flat`. An image in an unknown folder is a fault, and so is a
    mixture of two layouts. The fault says what was expected and what was found. The files left out,
    name → reason, are no images.

    Raises:
        DataError: no class folder holds an image.
    """
    left_out = find_other_files(storage)
    others = [n for n in storage.names if n.lower().endswith(OTHER_SUFFIXES)]
    images = [n for n in storage.names if n not in left_out and n not in set(others)]
    found = [parsed for parsed in map(_parse_path, images) if parsed is not None]
    if not found:
        raise DataError(f"`data` must be laid out as {EXPECTED}. Received: {describe(storage)}")
    # An image in an unknown folder is a fault, because its class could only be guessed.
    layouts = {(parsed.above, parsed.split == "") for parsed in found}
    is_mixed = len(found) < len(images) or len(layouts) > 1
    faults = [f"another layout than {EXPECTED}: {describe(storage)}"] if is_mixed else []
    # Only readable formats decide the layout, so that a stray drawing does not change it.
    layout = _name_layout(storage, found)
    folders = {parsed.folder for parsed in found}
    for name in others:
        parsed = _parse_path(name)
        if parsed is not None and parsed.folder in folders:
            # Beside the images of a class, it is reported as unreadable.
            found.append(parsed)
        else:
            left_out[name] = "an image of another format outside of the class folders"
    return layout, [_record(parsed, layout) for parsed in found], faults, left_out


def find_other_files(storage: Storage) -> dict[str, str]:
    """Return name → reason of every file that is no image, by content; see `image_files.py`."""
    reasons = {name: find_reason(name, partial(storage.read_start, name)) for name in storage.names}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def describe(storage: Storage) -> str:
    """Return in words the folders of `storage` and how many images each holds."""
    others = find_other_files(storage)
    images = [name for name in storage.names if name not in others]
    counts = Counter(str(PurePosixPath(name).parent) for name in images)
    if not counts:
        return f"{storage.root} with no PNG, JPEG or DICOM file ({len(storage.names)} other files)"
    shown = [f"{folder} ({count} images)" for folder, count in sorted(counts.items())[:6]]
    more = f" and {len(counts) - 6} more folders" if len(counts) > 6 else ""
    return f"{storage.root} with {', '.join(shown)}{more}"


def _parse_path(path: str) -> _TreePath | None:
    parts = PurePosixPath(path).parts
    # The class is the folder that holds the file, at any depth.
    if len(parts) < 2 or parts[-2].strip().lower() not in CLASS_NAMES:
        return None
    class_name = parts[-2].strip().lower()
    split = parts[-3].strip().lower() if len(parts) > 2 else ""
    if split in SPLIT_NAMES:
        return _TreePath(path, "/".join(parts[:-3]), split, class_name)
    return _TreePath(path, "/".join(parts[:-2]), "", class_name)


def _name_layout(storage: Storage, found: list[_TreePath]) -> str:
    splits = {SPLIT_NAMES[parsed.split] for parsed in found if parsed.split}
    if not splits:
        return "flat"
    # In a ZIP, the tree is in a folder of the published name; unpacked, that folder is the root.
    folder = PurePosixPath(found[0].above).name or storage.root.name
    named = folder.lower() == PUBLISHED_FOLDER or all(parse_published(p.path) for p in found)
    return "kaggle" if splits <= {"train", "validation"} and named else "tree"


def find_empty_classes(records: Iterable[SliceRecord], folders: Iterable[str]) -> list[str]:
    """Return the class folders of a tree without an image, such as `val/normal`.

    Args:
        records: the images of the tree.
        folders: all existing folders, because a split with two empty classes has no records.
    """
    found: dict[PurePosixPath, set[str]] = defaultdict(set)
    for record in records:
        folder = PurePosixPath(record.path).parent
        found[folder.parent].add(folder.name.strip().lower())
    tops = {_find_top(str(folder / "normal")) for folder in found}
    for name in folders:
        # Outside a tree that holds images, a folder of that name may mean anything.
        if PurePosixPath(name).name.strip().lower() in CLASS_NAMES and _find_top(name) in tops:
            found[PurePosixPath(name).parent] |= set()
    return [
        str(above / name)
        for above, names in sorted(found.items())
        for name in CLASS_NAMES
        if name not in names
    ]


def _find_top(class_folder: str) -> str | None:
    """Return the folder that holds the tree of a class folder, None if it is no class folder."""
    parsed = _parse_path(f"{class_folder}/name")
    return None if parsed is None else parsed.above


def _record(parsed: _TreePath, layout: str) -> SliceRecord:
    splits = PUBLISHED_SPLITS if layout == "kaggle" else SPLIT_NAMES
    name = identify_file(parsed.path, is_published=layout == "kaggle")
    return SliceRecord(
        path=parsed.path,
        label=CLASS_NAMES.index(parsed.class_name),
        split=splits.get(parsed.split),
        patient_id=name.volume_id,
        volume_id=name.volume_id,
        slice_id=name.slice_id,
        variant=name.variant,
    )
