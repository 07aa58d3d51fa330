"""Crops of unseen phantom slices, cut as for a served request and cached on disk.

The cache key of a set is a hash of its configuration, the view, the size, and the source of the
code that makes or checks the crops.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import norm

from cspine.core.atomic_write import written_whole
from cspine.data.crop_cache import imaging_source
from cspine.decide import image_checks
from cspine.decide.image_checks import check_image
from cspine.imaging.preprocess import preprocess
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient
from cspine.phantom.writers.parallel import run_per_patient
from experiments.phantom.ideal_observer import detectability

Row = tuple[np.ndarray | None, bool, int, float, float, str]


@dataclass(frozen=True)
class Crops:
    """Crops of the N slices in which a vertebra was found, and the truth about them.

    - `images` uint8 (N, S, S)
    - `image_ok` bool (N,): the picture passed the image checks of the service
    - `labels` int (N,)
    - `widths_mm` float (N,), NaN on normal slices
    - `ideal` float (N,): the AUROC of an observer who knows the fracture and the noise exactly; NaN
      on normal slices
    - `groups` str (N,): the patient
    - `indices` int (N,): the index among all slices of the set
    - `slices` int (1,): the number of all slices, including those without a vertebra
    """

    images: np.ndarray
    image_ok: np.ndarray
    labels: np.ndarray
    widths_mm: np.ndarray
    ideal: np.ndarray
    groups: np.ndarray
    indices: np.ndarray
    slices: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load_crops(config: PhantomConfig, view: str, size: int, cache: Path | None) -> Crops:
    """Return the crops of a set, from the folder `cache` if they are there.

    `view` is `vertebra`, `slice`, or `published`: the complete slice, resized as in the published
    layout.
    """
    place = None if cache is None else cache / f"crops-{_key(config, view, size)}.npz"
    if place is not None and place.is_file():
        with np.load(place) as kept:
            return Crops(**{field.name: kept[field.name] for field in fields(Crops)})
    crops = _render(config, view, size)
    if place is not None:
        with written_whole(place) as part:
            np.savez(part, **vars(crops))
    return crops


def crop_patient(patient: int, config: PhantomConfig, view: str, size: int) -> list[Row]:
    """Return for each slice of a patient a row with the columns of `Crops`, up to `groups`.

    The image is None if no vertebra was found.
    """
    rows = []
    for one in render_patient(patient, config):
        image = _crop(one.grey, view, size)
        is_ok = check_image(one.grey, False) is None
        width = np.nan if one.truth.width_mm is None else one.truth.width_mm
        ideal = float(norm.cdf(detectability(one) / np.sqrt(2))) if one.truth.label else np.nan
        name = f"{config.seed}-{patient}"
        rows.append((image, is_ok, one.truth.label, width, ideal, name))
    return rows


def _crop(grey: np.ndarray, view: str, size: int) -> np.ndarray | None:
    if view == "published":
        # `write_kaggle` resizes a slice in the same way.
        whole = Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC)
        return np.asarray(whole)
    crop = preprocess(grey, view, size)
    return None if crop is None else crop.image


def _render(config: PhantomConfig, view: str, size: int) -> Crops:
    work = partial(crop_patient, config=config, view=view, size=size)
    slices = run_per_patient(work, config.patients)
    found = [(*row, index) for index, row in enumerate(slices) if row[0] is not None]
    images, *others = zip(*found, strict=True)
    columns = (np.stack(images), *map(np.array, others), np.array([len(slices)]))
    return Crops(**dict(zip((field.name for field in fields(Crops)), columns, strict=True)))


def _key(config: PhantomConfig, view: str, size: int) -> str:
    # The phantom's source is left out, because its configuration holds a version that changes with
    # the phantom's pixels.
    digest = hashlib.sha256(json.dumps([asdict(config), view, size, imaging_source()]).encode())
    for path in (Path(image_checks.__file__), Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]
