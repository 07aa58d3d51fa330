"""Writer of phantom sets in the layout of the published Kaggle set: names, size, split and copies.

According to the file names of the Kaggle set, each slice has 20 copies there: three rotated, nine
rotated twice, two sharpened, and three rotations of each sharpened one. The angles of the rotations
are small and arbitrary, and the corners are black.
"""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

from cspine.core.errors import DataError
from cspine.core.synthetic_mark import PNG_KEYWORD, PNG_TEXT
from cspine.phantom.config import PhantomConfig
from cspine.phantom.patient import VARIANTS, Rng, stream
from cspine.phantom.render import render_patient
from cspine.phantom.writers.parallel import run_per_patient, written_beside
from cspine.phantom.writers.truth_table import make_row, write_table

_FAST = 1  # fastest level of PNG's compression; higher levels hardly make noise any smaller
PUBLISHED_SIDE_PX = 224
_FIRST_SERIES = 10
_LAST_NUMBER = 150


def published_name(series: int, index: int, count: int) -> str:
    """Return a file stem like `CSFDV1B10 (18)`.

    The number in brackets rises from 1 at the top of the neck to at most 150, unless `count` is
    greater.
    """
    step = max(1, _LAST_NUMBER // count)
    return f"CSFDV1B{_FIRST_SERIES + series} ({1 + index * step})"


def make_variants(picture: Image.Image, rng: Rng) -> dict[str, Image.Image]:
    """Return the original and its 20 copies by suffix of the file name.

    The original has the empty suffix. The angles of the rotations are drawn from `rng`.
    """

    def rotated(source: Image.Image) -> Image.Image:
        angle = float(rng.choice([-1, 1]) * rng.uniform(4, 20))
        return source.rotate(angle, Image.Resampling.BILINEAR)

    copies = {"": picture}
    for first in (1, 2, 3):
        copies[f"-rotated{first}"] = rotated(picture)
        for second in (1, 2, 3):
            copies[f"-rotated{first}-rotated{second}"] = rotated(copies[f"-rotated{first}"])
    sharper = picture.filter(ImageFilter.UnsharpMask(radius=2, percent=350, threshold=0))
    for name in ("-sharpened", "-sharpened1"):
        copies[name] = sharper
        sharper = sharper.filter(ImageFilter.SHARPEN)
        for second in (1, 2, 3):
            copies[f"{name}-rotated{second}"] = rotated(copies[name])
    return copies


def write_kaggle(out: Path, config: PhantomConfig) -> Path:
    """Write `cervical fracture/{train,val}/{fracture,normal}/*.png` into `out`; return `out`.

    Images are RGB of 224² pixels, with one series per patient. As in the published Kaggle set, the
    first tenth of each class's files in alphabetical order goes to `val`, even if this separates
    the copies of one slice (`config.variants`). The truth is in `out/truth.csv`, a name that no
    reader takes for the table of a data set.

    Raises:
        DataError: `out` is a file or a folder that is not empty, or a class would have no file in
            one of the splits.
    """
    with written_beside(out) as folder:
        # Files are first written by class, because the split needs all names in order.
        staged = folder / "staged"
        staged.mkdir()
        rows = run_per_patient(partial(_write_series, staged, config), config.patients)
        by_name = {row["path"]: row for row in rows}
        for label in ("fracture", "normal"):
            files = sorted(staged.glob(f"{label}/*.png"))
            if len(files) < 2:
                raise DataError(
                    f"Each class must have 2 slices, one for each split. Received: {len(files)} "
                    f"of {label}. Raise `--patients` or `--slices`"
                )
            # As in the published Kaggle set, copies of one slice may end up in both splits.
            held_out = max(1, len(files) // 10)
            for split, part in (("val", files[:held_out]), ("train", files[held_out:])):
                target = folder / "cervical fracture" / split / label
                target.mkdir(parents=True)
                for file in part:
                    moved = file.rename(target / file.name)
                    path = moved.relative_to(folder).as_posix()
                    by_name[file.name].update(path=path, split=split)
            (staged / label).rmdir()
        staged.rmdir()
        write_table(folder / "truth.csv", rows)
    return out


def _write_series(folder: Path, config: PhantomConfig, number: int) -> list[dict[str, Any]]:
    """Write one patient's series, not yet split; return table rows whose path is the file name."""
    rows = []
    mark = PngInfo()
    mark.add_text(PNG_KEYWORD, PNG_TEXT)
    for item in render_patient(number, config):
        target = folder / item.truth.label_name
        # Another patient's process may have created the folder already.
        target.mkdir(exist_ok=True)
        stem = published_name(number, item.truth.slice_index, config.slices_per_patient)
        whole = Image.fromarray(item.grey)
        rng = stream(VARIANTS, *item.patient.key, item.position.index)
        copies = make_variants(whole, rng) if config.variants else {"": whole}
        for suffix, picture in copies.items():
            small = picture.resize((PUBLISHED_SIDE_PX,) * 2, Image.Resampling.BICUBIC)
            name = f"{stem}{suffix}.png"
            small.convert("RGB").save(
                target / name, pnginfo=mark, compress_level=_FAST, compress_type=zlib.Z_RLE
            )
            rows.append(make_row(item.truth, name))
    return rows
