"""Recognises how a data set is laid out and makes a record of each image, without reading pixels.

Trees: `{fracture,normal}/*` or `{train,val,test}/{fracture,normal}/*`, in any letter case, at the
root or below one common folder. A tree with `train` and `val` alone that lies in a folder named
`cervical fracture`, or whose names all follow the published rule, is the published layout: there
`val` is the test set. Tables: a `slices.csv`, as the phantom writes it or a user does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from cspine.core.errors import DataError
from cspine.core.labels import CLASS_NAMES
from cspine.data.layouts.filenames import parse_name
from cspine.data.records import SliceRecord
from cspine.data.storage import Storage

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
# Pictures that are not read. Beside a class's images each is named as unreadable.
OTHER_SUFFIXES = (".bmp", ".gif", ".jp2", ".tif", ".tiff", ".webp")
# What people call these folders, beside what Keras and the published set call them.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# The published folder `val` was only ever used for testing.
PUBLISHED_SPLITS = SPLIT_NAMES | {"val": "test"}
PUBLISHED_FOLDER = "cervical fracture"
EXPECTED = (
    "{fracture,normal}/*.png, {train,val,test}/{fracture,normal}/*.png (the published set is one), "
    "a slices.csv with `path` and `label`, or RSNA 2022's train.csv and train_images/"
)


@dataclass(frozen=True)
class _Place:
    """Where one image lies in a tree: folder above, split folder (lower case) and class name."""

    path: str
    above: str
    split: str | None
    class_name: str


def is_image(name: str) -> bool:
    """Whether the file name ends as an image's does that cspine reads."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _is_other(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in OTHER_SUFFIXES


def find_table(storage: Storage) -> str | None:
    """Return the name of the set's `slices.csv`, at the root or in one folder below, or None."""
    tables = [n for n in storage.names if n == "slices.csv" or n.endswith("/slices.csv")]
    # One only: of two tables none can be called the set's own.
    shallow = [name for name in tables if name.count("/") <= 1]
    return shallow[0] if len(shallow) == 1 else None


def index_tree(storage: Storage) -> tuple[str, list[SliceRecord], list[str]]:
    """Return a tree's layout (`kaggle`, `tree` or `flat`), a record of each image, and the faults.

    A fault is an image in an unknown place, or two layouts in one: it says what was expected and
    what was found.

    Raises:
        DataError: no image lies in a class's folder.
    """
    found = {name: _place(name) for name in storage.names if is_image(name)}
    places = [place for place in found.values() if place is not None]
    stray = [name for name, place in found.items() if place is None]
    has_splits = {place.split is not None for place in places}
    if not places:
        raise DataError(f"`data` must be laid out as {EXPECTED}. Received: {describe(storage)}")
    # One image in an unknown place is a fault of the layout: guessing its class would be worse
    # than asking.
    is_mixed = stray or len(has_splits) > 1 or len({p.above for p in places}) > 1
    faults = [f"another layout than {EXPECTED}: {describe(storage)}"] if is_mixed else []
    # From the images that are read alone: a stray drawing must not make it another layout.
    layout = _name_layout(storage, places)
    homes = {(place.above, place.split, place.class_name) for place in places}
    others = [_place(name) for name in storage.names if _is_other(name)]
    places += [one for one in others if one and (one.above, one.split, one.class_name) in homes]
    return layout, [_record(place, layout) for place in places], faults


def describe(storage: Storage) -> str:
    """Return in words what lies in `storage`: its folders and how many images each holds."""
    counts: dict[str, int] = {}
    for name in storage.names:
        if is_image(name):
            folder = str(PurePosixPath(name).parent)
            counts[folder] = counts.get(folder, 0) + 1
    if not counts:
        kinds = " or ".join([", ".join(IMAGE_SUFFIXES[:-1]), IMAGE_SUFFIXES[-1]])
        return f"{storage.root} with no {kinds} file ({len(storage.names)} other files)"
    shown = [f"{folder} ({count} images)" for folder, count in sorted(counts.items())[:6]]
    more = f" and {len(counts) - 6} more folders" if len(counts) > 6 else ""
    return f"{storage.root} with {', '.join(shown)}{more}"


def _place(path: str) -> _Place | None:
    parts = PurePosixPath(path).parts
    # The class is the folder that holds the file, wherever that lies.
    if len(parts) < 2 or parts[-2].strip().lower() not in CLASS_NAMES:
        return None
    class_name = parts[-2].strip().lower()
    split = parts[-3].strip().lower() if len(parts) > 2 else ""
    if split in SPLIT_NAMES:
        return _Place(path, "/".join(parts[:-3]), split, class_name)
    return _Place(path, "/".join(parts[:-2]), None, class_name)


def _name_layout(storage: Storage, places: list[_Place]) -> str:
    splits = {SPLIT_NAMES[place.split] for place in places if place.split}
    if not splits:
        return "flat"
    # Unpacked inside the folder the root itself has the name; in the ZIP a folder above has it.
    folder = PurePosixPath(places[0].above).name or storage.root.name
    named = folder.lower() == PUBLISHED_FOLDER or all(parse_name(p.path) for p in places)
    return "kaggle" if splits <= {"train", "validation"} and named else "tree"


def find_empty_classes(records: Iterable[SliceRecord], folders: Iterable[str]) -> list[str]:
    """Return the class folders of a tree that hold no image of `records`, as `val/normal`.

    `folders` are all that exist: one of a split may be there, and both its classes empty.
    """
    seen: dict[PurePosixPath, set[str]] = {}
    for record in records:
        folder = PurePosixPath(record.path).parent
        seen.setdefault(folder.parent, set()).add(folder.name.strip().lower())
    tops = {_top(str(folder / "normal")) for folder in seen}
    for name in folders:
        # Beside those that hold images: elsewhere such a name may mean anything.
        if PurePosixPath(name).name.strip().lower() in CLASS_NAMES and _top(name) in tops:
            seen.setdefault(PurePosixPath(name).parent, set())
    return [
        str(above / name)
        for above, names in sorted(seen.items())
        for name in CLASS_NAMES
        if name not in names
    ]


def _top(class_folder: str) -> str | None:
    """The folder above splits and classes, of a class's folder."""
    place = _place(f"{class_folder}/name")
    return None if place is None else place.above


def _record(place: _Place, layout: str) -> SliceRecord:
    names = PUBLISHED_SPLITS if layout == "kaggle" else SPLIT_NAMES
    split = names[place.split] if place.split else None
    label = CLASS_NAMES.index(place.class_name)
    parsed = parse_name(place.path)
    if parsed is None:
        own = str(PurePosixPath(place.path).with_suffix(""))
        return SliceRecord(place.path, label, split, own, own, own)
    volume = parsed.volume_id
    return SliceRecord(
        place.path, label, split, volume, volume, parsed.slice_id, variant=parsed.variant
    )
