"""Records to arrays: decodes and crops each slice once, and keeps the result by content.

The cache key covers the bytes of every image, mask and twin, the view, the size and the source of
the imaging room itself, so a change in any of them is a new entry. Pixels stay uint8 and
memory-mapped. Knows nothing of models or splits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from cspine import imaging
from cspine.core.errors import DataError, ImageError
from cspine.core.labels import FRACTURE, NORMAL
from cspine.core.progress import progress
from cspine.data.records import Dataset, SliceRecord
from cspine.imaging.decode import decode_image
from cspine.imaging.preprocess import crop_mask, preprocess

MASK_STRIDE = 8  # the map head's stride
READERS = 2  # threads: decoding, resizing and filtering release the interpreter's lock
_FORMAT = "samples-1"


@dataclass(frozen=True)
class Samples:
    """Network-ready slices.

    Fields:
        images: uint8 (N, S, S), memory-mapped from the cache.
        labels: int64 (N,), `labels.NORMAL` or `labels.FRACTURE`.
        masks: uint8 (N, S // 8, S // 8), 1 where any pixel of the cell is fractured; None unless
            every fracture among the records has a mask or box.
        groups, slice_ids: str (N,), patient and slice.
        widths_mm: float64 (N,), NaN where not known or no fracture.
        is_twin: bool (N,), a fractured slice's copy without the fracture; label NORMAL.
        left_out: how many records hold no vertebra to crop.
        records: the record of each image (of a twin: the fractured one's).
        key: the cache entry's content hash.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    groups: np.ndarray
    slice_ids: np.ndarray
    widths_mm: np.ndarray
    is_twin: np.ndarray
    left_out: int
    records: tuple[SliceRecord, ...] = ()
    key: str = ""

    def __len__(self) -> int:
        return len(self.labels)


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
class _Plan:
    """What to do with every job: the parts of the cache key besides the files."""

    view: str
    image_size: int
    with_masks: bool
    jobs: tuple[_Job, ...] = field(repr=False)


def load_samples(
    dataset: Dataset,
    records: Sequence[SliceRecord],
    view: str,
    image_size: int,
    cache_dir: Path,
    with_twins: bool = False,
) -> Samples:
    """Return the records' network inputs, from the cache where the same were made before.

    Args:
        view: `slice` or `vertebra`; a slice without a vertebra is left out of the latter.
        image_size: pixels a side, S.
        with_twins: also each fractured slice's twin, as a normal sample; for training only.

    Raises:
        DataError: a record has no label, or a file of it cannot be read; all are named at once.
    """
    unlabelled = [record.path for record in records if record.label is None]
    if unlabelled:
        raise DataError(f"`records` must have labels. Received: {unlabelled[0]} without one")
    twins = [_Job(r, True) for r in records if with_twins and r.twin_path]
    fractures = [record for record in records if record.label == FRACTURE]
    with_masks = bool(fractures) and all(r.mask_path or r.boxes for r in fractures)
    plan = _Plan(view, image_size, with_masks, (*map(_Job, records), *twins))
    key = _content_key(dataset, plan)
    folder = cache_dir / f"samples-{key[:24]}"
    if not (folder / "kept.json").is_file():
        _write_cache(dataset, plan, folder)
    return _open_cache(folder, plan, key)


def _content_key(dataset: Dataset, plan: _Plan) -> str:
    """Return the hex SHA-256 of all that the arrays depend on."""
    digest = hashlib.sha256(
        f"{_FORMAT} {_imaging_source()} {plan.view} {plan.image_size} {plan.with_masks}\n".encode()
    )
    with ThreadPoolExecutor(READERS) as pool:
        for line in pool.map(lambda job: _hash_job(dataset, job, plan.with_masks), plan.jobs):
            digest.update(line)
    return digest.hexdigest()


def _hash_job(dataset: Dataset, job: _Job, with_masks: bool) -> bytes:
    record = job.record
    mask = record.mask_path if with_masks and not job.is_twin else None
    files = [hashlib.sha256(dataset.read_bytes(p)).hexdigest() for p in (job.path, mask) if p]
    return f"{files} {job.label} {job.is_twin} {record.boxes}\n".encode()


@cache
def _imaging_source() -> str:
    """Return a hash of the imaging room's source: another preprocessing never meets old crops."""
    digest = hashlib.sha256()
    for folder in imaging.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _write_cache(dataset: Dataset, plan: _Plan, folder: Path) -> None:
    """Crop every job into a folder beside the cache entry and rename it into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        _fill_cache(dataset, plan, beside)
        if folder.exists():  # an older entry without kept.json was never finished
            shutil.rmtree(folder)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fill_cache(dataset: Dataset, plan: _Plan, folder: Path) -> None:
    size, cells = plan.image_size, plan.image_size // MASK_STRIDE
    count = len(plan.jobs)
    images = _create(folder / "images.npy", (count, size, size))
    masks = _create(folder / "masks.npy", (count, cells, cells)) if plan.with_masks else None
    kept: list[int] = []
    faults: list[str] = []

    def crop(job: _Job) -> tuple[np.ndarray, np.ndarray | None] | str | None:
        try:
            return _crop_job(dataset.read_bytes, job, plan)
        except (ImageError, DataError) as error:
            return f"{job.path} ({error})"

    with ThreadPoolExecutor(READERS) as pool:
        results = progress(pool.map(crop, plan.jobs), "cropping", count)
        for index, result in enumerate(results):
            if isinstance(result, str):
                faults.append(result)
            elif result is not None:
                images[len(kept)] = result[0]
                if masks is not None and result[1] is not None:
                    masks[len(kept)] = result[1]
                kept.append(index)
    if faults:
        raise DataError(f"Every image must be readable. Received: {'; '.join(faults[:20])}")
    images.flush()
    if masks is not None:
        masks.flush()
    (folder / "kept.json").write_text(json.dumps(kept), encoding="utf-8")


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return a zeroed uint8 .npy file, memory-mapped; numpy maps no empty array, so at least 1."""
    return np.lib.format.open_memmap(path, "w+", np.uint8, (max(shape[0], 1), *shape[1:]))


def _crop_job(
    read: Callable[[str], bytes], job: _Job, plan: _Plan
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Return image uint8 (S, S) and mask uint8 (S // 8, S // 8), or None without a vertebra."""
    grey = decode_image(read(job.path)).grey
    crop = preprocess(grey, plan.view, plan.image_size)
    if crop is None:
        return None
    if not plan.with_masks or job.label == NORMAL:
        return crop.image, None
    mask = crop_mask(_read_mask(read, job.record, grey.shape), crop.region, plan.image_size)
    return crop.image, pool_mask(mask)


def _read_mask(
    read: Callable[[str], bytes], record: SliceRecord, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the fracture as bool (H, W), from the mask file (nonzero is fracture) or the boxes."""
    if record.mask_path is None:
        mask = np.zeros(shape, bool)
        for box in record.boxes:
            inside = box.clip_to(*shape)
            mask[inside.y0 : inside.y1, inside.x0 : inside.x1] = True
        return mask
    mask = decode_image(read(record.mask_path)).grey > 0
    if mask.shape != shape:
        raise DataError(f"the mask must be of the image's size {shape}. Received: {mask.shape}")
    return mask


def pool_mask(mask: np.ndarray) -> np.ndarray:
    """Return a bool (S, S) mask max-pooled at stride 8, uint8 (S // 8, S // 8).

    Where 8 does not divide S, the last cell takes in the pixels that are left over.
    """
    cells = mask.shape[0] // MASK_STRIDE
    edges = np.arange(cells) * MASK_STRIDE
    rows = np.maximum.reduceat(mask, edges, axis=0)
    return np.maximum.reduceat(rows, edges, axis=1).astype(np.uint8)


def _open_cache(folder: Path, plan: _Plan, key: str) -> Samples:
    kept = json.loads((folder / "kept.json").read_text(encoding="utf-8"))
    jobs = [plan.jobs[index] for index in kept]
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
        records=tuple(job.record for job in jobs),
        key=key,
    )


def _load(path: Path, count: int) -> np.ndarray:
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped[:count]


def _width(job: _Job) -> float:
    width = None if job.label == NORMAL else job.record.width_mm
    return np.nan if width is None else width
