"""Records to arrays: decodes and crops each slice once, and keeps the result by content.

The cache key covers the bytes of every image, mask and twin, the view, the size and the source of
the imaging room and of the picture check, so a change in any of them is a new entry. Pixels stay
uint8 and memory-mapped. Knows nothing of models or splits, nor what the check looks for.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

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
# Raised when the arrays' meaning changes, so that old entries are never met.
_FORMAT = "samples-2"

# (grey uint8 (H, W), is_colour) → why serving would refuse the picture, None where it would not.
PictureCheck = Callable[[np.ndarray, bool], str | None]


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


@dataclass(frozen=True)
class _Cropped:
    """What is kept of one picture: uint8 (S, S), uint8 (S // 8, S // 8) or None, and the check."""

    image: np.ndarray
    mask: np.ndarray | None
    image_ok: bool


@dataclass(frozen=True)
class _Plan:
    """What to do with every job: the parts of the cache key besides the files."""

    view: str
    image_size: int
    with_masks: bool
    check: PictureCheck | None
    jobs: tuple[_Job, ...] = field(repr=False)


def load_samples(
    dataset: Dataset,
    records: Sequence[SliceRecord],
    view: str,
    image_size: int,
    cache_dir: Path,
    with_twins: bool = False,
    check: PictureCheck | None = None,
) -> Samples:
    """Return the records' network inputs, from the cache where the same were made before.

    Args:
        view: `slice` or `vertebra`; a slice without a vertebra is left out of the latter.
        image_size: pixels a side, S.
        with_twins: also each fractured slice's twin, as a normal sample; for training only.
        check: looks at each whole picture, here where its pixels are decoded; fills `image_ok`.

    Raises:
        DataError: a record has no label, or a file of it cannot be read; all are named at once.
    """
    unlabelled = [record.path for record in records if record.label is None]
    if unlabelled:
        raise DataError(f"`records` must have labels. Received: {unlabelled[0]} without one")
    # After all originals: the first rows are then the same with and without twins.
    twins = [_Job(r, True) for r in records if with_twins and r.twin_path]
    fractures = [record for record in records if record.label == FRACTURE]
    # A fracture without a mask would teach the map head that there is nothing to see.
    with_masks = bool(fractures) and all(r.mask_path or r.boxes for r in fractures)
    plan = _Plan(view, image_size, with_masks, check, (*map(_Job, records), *twins))
    key = _content_key(dataset, plan)
    folder = cache_dir / f"samples-{key[:24]}"
    if not (folder / "kept.json").is_file():
        _write_cache(dataset, plan, folder)
    return _open_cache(folder, plan, key)


def _content_key(dataset: Dataset, plan: _Plan) -> str:
    """Return the hex SHA-256 of all that the arrays depend on."""
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
    # What the files do not say and the arrays depend on.
    return f"{files} {job.label} {job.is_twin} {record.boxes}\n".encode()


@cache
def imaging_source() -> str:
    """Return a hash of all that makes a crop: another preprocessing never meets old crops."""
    return hash_sources(Path(*imaging.__path__))


def hash_sources(package: Path) -> str:
    """Return the hex SHA-256 of every source and array file below a package's folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.suffix in (".py", ".npz")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _check_source(check: PictureCheck | None) -> str:
    """Return a hash of the module that the check is defined in, empty without a check."""
    path = None if check is None else inspect.getsourcefile(check)
    return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _write_cache(dataset: Dataset, plan: _Plan, folder: Path) -> None:
    """Crop every job into a folder beside the cache entry and rename it into place."""
    # Two runs may fill the same entry: the later one's is the same content.
    with written_folder(folder, replace=True) as beside:
        _fill_cache(dataset, plan, beside)


def _fill_cache(dataset: Dataset, plan: _Plan, folder: Path) -> None:
    size, cells = plan.image_size, plan.image_size // MASK_STRIDE
    count = len(plan.jobs)
    images = _create(folder / "images.npy", (count, size, size))
    masks = _create(folder / "masks.npy", (count, cells, cells)) if plan.with_masks else None
    kept: list[int] = []
    image_ok: list[bool] = []
    faults: list[str] = []

    def crop(job: _Job) -> _Cropped | str | None:
        try:
            return _crop_job(dataset.read_bytes, job, plan)
        except (ImageError, DataError) as error:
            return f"{job.path} ({error})"

    with ThreadPoolExecutor(READERS) as pool:
        # In the order of the jobs, however the threads finish.
        results = progress(pool.map(crop, plan.jobs), "cropping", count)
        for index, result in enumerate(results):
            if isinstance(result, str):
                faults.append(result)
            elif result is not None:
                # Packed: what is left out leaves no gap, and the tail of the file is never read.
                images[len(kept)] = result.image
                if masks is not None and result.mask is not None:
                    masks[len(kept)] = result.mask
                kept.append(index)
                image_ok.append(result.image_ok)
    # After all were tried, so that a user mends the set once and not file by file.
    if faults:
        raise DataError(f"Every image must be readable. Received: {'; '.join(faults[:20])}")
    images.flush()
    if masks is not None:
        masks.flush()
    text = json.dumps({"kept": kept, "image_ok": image_ok})
    # Last of all: its presence says that the arrays are whole.
    (folder / "kept.json").write_text(text, encoding="utf-8")


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return a zeroed uint8 .npy file, memory-mapped; numpy maps no empty array, so at least 1."""
    return np.lib.format.open_memmap(path, "w+", np.uint8, (max(shape[0], 1), *shape[1:]))


def _crop_job(read: Callable[[str], bytes], job: _Job, plan: _Plan) -> _Cropped | None:
    """Return what is kept of one picture, or None without a vertebra."""
    picture = decode_image(read(job.path))
    grey = picture.grey
    # The very function that serving calls: a crop that differs by a pixel is another input.
    crop = preprocess(grey, plan.view, plan.image_size)
    if crop is None:
        return None
    image_ok = plan.check is None or (
        picture.refusal is None and plan.check(grey, picture.is_colour) is None
    )
    if not plan.with_masks or job.label == NORMAL:
        return _Cropped(crop.image, None, image_ok)
    mask = crop_mask(read_mask(read, job.record, grey.shape), crop.region, plan.image_size)
    return _Cropped(crop.image, pool_mask(mask), image_ok)


def _open_cache(folder: Path, plan: _Plan, key: str) -> Samples:
    found = json.loads((folder / "kept.json").read_text(encoding="utf-8"))
    jobs = [plan.jobs[index] for index in found["kept"]]
    count = len(jobs)
    images = _load(folder / "images.npy", count)
    masks = _load(folder / "masks.npy", count) if plan.with_masks else None
    return Samples(
        images=images,
        labels=np.array([job.label for job in jobs], np.int64),
        masks=masks,
        groups=np.array([job.record.patient_id for job in jobs], str),
        slice_ids=np.array([job.record.slice_id for job in jobs], str),
        widths_mm=np.array([_width(job) for job in jobs], np.float64),
        is_twin=np.array([job.is_twin for job in jobs], bool),
        left_out=len(plan.jobs) - count,
        image_ok=np.array(found["image_ok"], bool),
        records=tuple(job.record for job in jobs),
        key=key,
    )


def _load(path: Path, count: int) -> np.ndarray:
    # Mapped: a set may be larger than memory, and batches touch few pages.
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped[:count]


def _width(job: _Job) -> float:
    # A twin has its fracture's record, but no fracture.
    width = None if job.label == NORMAL else job.record.width_mm
    return np.nan if width is None else width
