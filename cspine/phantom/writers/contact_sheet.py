"""Writer of a contact sheet: labelled phantom slices of both classes for visual inspection."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from PIL import Image, ImageDraw

from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import PhantomSlice, draw_slices, render_slice

_ROWS, _COLUMNS, _TILE_PX, _TEXT_PX = 4, 6, 256, 16


def write_sheet(path: Path, config: PhantomConfig) -> Path:
    """Write a PNG of 4 × 6 slices of 24 patients, fractures in the upper half; return `path`."""
    tiles = _choose(config)
    sheet = Image.new("L", (_COLUMNS * _TILE_PX, _ROWS * (_TILE_PX + _TEXT_PX)), 0)
    pen = ImageDraw.Draw(sheet)
    for number, item in enumerate(tiles):
        row, column = divmod(number, _COLUMNS)
        x, y = column * _TILE_PX, row * (_TILE_PX + _TEXT_PX)
        small = Image.fromarray(item.grey).resize((_TILE_PX - 2,) * 2, Image.Resampling.LANCZOS)
        sheet.paste(small, (x, y))
        pen.text((x + 3, y + _TILE_PX + 1), _caption(item), fill=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
    return path


def _choose(config: PhantomConfig) -> list[PhantomSlice]:
    """Choose slices of different patients, the first half of them fractured.

    The levels rotate from C1 to C7.
    """
    patients = (draw_slices(number, config) for number in count())
    half = _ROWS * _COLUMNS // 2
    chosen = []
    for number in range(2 * half):
        # The search goes through slices that are not rendered; only the chosen one is.
        fitting = (
            drawn
            for slices in patients
            for drawn in slices
            if drawn[2] == (number < half) and drawn[1].level == number % 7
        )
        chosen.append(render_slice(*next(fitting), config))
    return chosen


def _caption(item: PhantomSlice) -> str:
    truth = item.truth
    if truth.width_mm is None:
        return f"{truth.level} normal  {truth.hard_negative}"
    return f"{truth.level} {truth.fracture_type} {truth.width_mm:.1f} mm"
