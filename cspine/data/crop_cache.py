"""Cache of crops: each slice of a data set, decoded and cropped once, in memory-mapped arrays.

The cache key covers the bytes of every image, mask and twin (the same slice without its fracture),
each image's label and boxes, whether it is a twin, whether masks are used, the view, the size, and
the source code of the imaging package and of the image check. A change in any of these makes a new
entry.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cspine import imaging
from cspine.core.atomic_write import written_folder
from cspine.core.errors import DataError, ImageError
from cspine.core.labels import FRACTURE, NORMAL
from cspine.core.progress import progress
from cspine.data.masks import MASK_STRIDE, pool_mask, read_mask
from cspine.data.records import Dataset, SliceRecord
from cspine.data.samples import Samples
from cspine.imaging.decode import decode_image
from cspine.imaging.preprocess import crop_mask, preprocess

# Threads: decoding, resizing and filtering release the interpreter's lock.
READERS = 2
# This text must change if the meaning of the arrays changes, so that old entries are not used.
_FORMAT = "samples-2"

# Takes grey uint8 (H, W) and is_colour; returns why serving would refuse the image, else None.
ImageCheck = Callable[[np.ndarray, bool], str | None]


@dataclass(frozen=True)
class _Job:
    """One image to crop: a record, or its twin."""

    record: SliceRecord
    is_twin: bool = False

    @property
    def path(self) -> str:
        return self.record.twin_path or "" if self.is_twin else self.record.path

    @property
    def label(self) -> int:
        return NORMAL if self.is_twin or self.record.label == NORMAL else FRACTURE

    @property
    def width_mm(self) -> float:
        # A twin has the record of the fractured slice, but no fracture.
        width = None if self.label == NORMAL else self.record.width_mm
        return np.nan if width is None else width


class _Cropped(NamedTuple):
    """The cached parts of one image: uint8 (S, S), uint8 (S // 8, S // 8) or None, and bool."""

    image: np.ndarray
    mask: np.ndarray | None
    image_ok: bool


@dataclass(frozen=True)
class _Plan:
    """The images to crop and the settings; the cache key covers them and the files' bytes."""

    view: str
    image_size: int
    with_masks: bool
    check: ImageCheck | None
    jobs: tuple[_Job, ...]


def load_samples(
    dataset: Dataset,
    records: Sequence[SliceRecord],
    view: str,
    image_size: int,
    cache_dir: Path,
    with_twins: bool = False,
    check: ImageCheck | None = None,
) -> Samples:
    """Return the network inputs of the records, from the cache if they were made before.

    Args:
        dataset: holds the files of the records.
        records: the labelled slices.
        view: `slice` or `vertebra`; `vertebra` leaves out a slice if no vertebra is found in it.
        image_size: S, side of the crop in pixels.
        cache_dir: the folder of the cache entries.
        with_twins: add each fractured slice's twin as a normal sample; for training only.
        check: the check that serving makes on the complete image, before it is cropped;
            `image_ok` says whether the image passed.

    Raises:
        DataError: a record has no label, or files cannot be read; up to 20 files are named.
    """
    unlabelled = [record.path for record in records if record.label is None]
    if unlabelled:
        raise DataError(f"`records` must have labels. Received: {unlabelled[0]} without one")
    # Twins come after all originals, so that the first rows are the same with and without twins.
    twins = [_Job(r, True) for r in records if with_twins and r.twin_path]
    plan = _Plan(
        view=view,
        image_size=image_size,
        with_masks=have_masks(records),
        check=check,
        jobs=(*map(_Job, records), *twins),
    )
    key = _content_key(dataset, plan)
    folder = cache_dir / f"samples-{key[:24]}"
    if not (folder / "kept.json").is_file():
        # If two runs fill the same entry, the later one replaces it with the same content.
        with written_folder(folder, replace=True) as beside:
            _fill_cache(dataset, plan, beside)
    return _open_cache(folder, plan, key)


def have_masks(records: Sequence[SliceRecord]) -> bool:
    """Return whether there are fractures, and all of them have a mask or boxes.

    A fracture without one would have an empty mask, and would teach the map head (which predicts
    the place) that there is no fracture.
    """
    fractures = [record for record in records if record.label == FRACTURE]
    return bool(fractures) and all(r.mask_path or r.boxes for r in fractures)


def _content_key(dataset: Dataset, plan: _Plan) -> str:
    """Return the hex SHA-256 of everything that the arrays depend on."""
    sources = f"{imaging_source()} {_check_source(plan.check)}"
    digest = hashlib.sha256(
        f"{_FORMAT} {sources} {plan.view} {plan.image_size} {plan.with_masks}\n".encode()
    )
    with ThreadPoolExecutor(READERS) as pool:
        for line in pool.map(lambda job: _hash_job(dataset, job, plan.with_masks), plan.jobs):
            digest.update(line)
    return digest.hexdigest()


def _hash_job(dataset: Dataset, job: _Job, with_masks: bool) -> bytes:
    record = job.record
    mask = record.mask_path if with_masks and not job.is_twin else None
    files = [hashlib.sha256(dataset.read_bytes(p)).hexdigest() for p in (job.path, mask) if p]
    # The arrays also depend on label, twin flag and boxes, which are not in the files.
    return f"{files} {job.label} {job.is_twin} {record.boxes}\n".encode()


@cache
def imaging_source() -> str:
    """Return a hash of the code that makes crops, so that crops of older code are not used."""
    return hash_sources(Path(*imaging.__path__))


def hash_sources(package: Path) -> str:
    """Return the hex SHA-256 of every source and array file below a package's folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.suffix in (".py", ".npz")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _check_source(check: ImageCheck | None) -> str:
    """Return a hash of the module that defines the check, "" if there is no check."""
    path = None if check is None else inspect.getsourcefile(check)
    return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _fill_cache(dataset: Dataset, plan: _Plan, folder: Path) -> None:
    size, cells = plan.image_size, plan.image_size // MASK_STRIDE
    count = len(plan.jobs)
    images = _create(folder / "images.npy", (count, size, size))
    masks = _create(folder / "masks.npy", (count, cells, cells)) if plan.with_masks else None
    kept: dict[int, bool] = {}  # index of the job → image_ok
    faults: list[str] = []

    def crop(job: _Job) -> _Cropped | str | None:
        try:
            return _crop_job(dataset.read_bytes, job, plan)
        except (ImageError, DataError) as error:
            return f"{job.path} ({error})"

    with ThreadPoolExecutor(READERS) as pool:
        # Results come in the order of the jobs, whichever thread finishes first.
        results = progress(pool.map(crop, plan.jobs), "cropping", count)
        for index, result in enumerate(results):
            if isinstance(result, str):
                faults.append(result)
            elif result is not None:
                # Images that are left out leave no gaps, only unused rows at the end of the file.
                images[len(kept)] = result.image
                if masks is not None and result.mask is not None:
                    masks[len(kept)] = result.mask
                kept[index] = result.image_ok
    # Faults are raised after all images were tried, so that a user can repair all files at once.
    if faults:
        raise DataError(f"Every image must be readable. Received: {'; '.join(faults[:20])}")
    images.flush()
    if masks is not None:
        masks.flush()
    text = json.dumps({"kept": list(kept), "image_ok": list(kept.values())})
    # This file is written last: if it exists, the arrays are complete.
    (folder / "kept.json").write_text(text, encoding="utf-8")


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return a zeroed, memory-mapped uint8 .npy file of at least 1 row: NumPy cannot map 0 rows."""
    return np.lib.format.open_memmap(path, "w+", np.uint8, (max(shape[0], 1), *shape[1:]))


def _crop_job(read: Callable[[str], bytes], job: _Job, plan: _Plan) -> _Cropped | None:
    """Return the cached parts of one image, or None if no vertebra is found in it."""
    decoded = decode_image(read(job.path))
    grey = decoded.grey
    # Serving calls the same function, so that the network gets the same pixels there.
    crop = preprocess(grey, plan.view, plan.image_size)
    if crop is None:
        return None
    image_ok = plan.check is None or plan.check(grey, decoded.is_colour) is None
    if not plan.with_masks or job.label == NORMAL:
        return _Cropped(crop.image, None, image_ok)
    mask = crop_mask(read_mask(read, job.record, grey.shape), crop.region, plan.image_size)
    return _Cropped(crop.image, pool_mask(mask), image_ok)


def _open_cache(folder: Path, plan: _Plan, key: str) -> Samples:
    found = json.loads((folder / "kept.json").read_text(encoding="utf-8"))
    jobs = [plan.jobs[index] for index in found["kept"]]
    count = len(jobs)
    # The arrays are mapped, because a set may be larger than memory and a batch reads few pages.
    images = np.load(folder / "images.npy", mmap_mode="r")[:count]
    masks = np.load(folder / "masks.npy", mmap_mode="r")[:count] if plan.with_masks else None
    return Samples(
        images=images,
        labels=np.array([job.label for job in jobs], np.int64),
        masks=masks,
        groups=np.array([job.record.patient_id for job in jobs], str),
        slice_ids=np.array([job.record.slice_id for job in jobs], str),
        widths_mm=np.array([job.width_mm for job in jobs], np.float64),
        is_twin=np.array([job.is_twin for job in jobs], bool),
        left_out=len(plan.jobs) - count,
        image_ok=np.array(found["image_ok"], bool),
        records=tuple(job.record for job in jobs),
        key=key,
    )
