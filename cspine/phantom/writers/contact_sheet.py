"""A contact sheet of phantoms, both classes, labelled, for people to look at."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from cspine.core.labels import FRACTURE
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import PhantomSlice, render_patient

_ROWS, _COLUMNS, _TILE_PX, _TEXT_PX = 4, 6, 256, 16


def write_sheet(path: Path, config: PhantomConfig) -> Path:
    """Write 4 × 6 slices of 24 patients: rows of fractures above rows of normal slices."""
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
    """One slice of each patient, levels in turn, half of them fractured."""
    wanted = [FRACTURE] * (_ROWS * _COLUMNS // 2)
    wanted += [1 - FRACTURE] * len(wanted)
    chosen: list[PhantomSlice] = []
    patient = 0
    while len(chosen) < len(wanted):
        label, level = wanted[len(chosen)], f"C{len(chosen) % 7 + 1}"
        for item in render_patient(patient, config):
            if item.truth.label == label and item.truth.level == level:
                chosen.append(item)
                break
        patient += 1
    return chosen


def _caption(item: PhantomSlice) -> str:
    truth = item.truth
    if truth.width_mm is None:
        return f"{truth.level} normal  {truth.hard_negative}"
    return f"{truth.level} {truth.fracture_type} {truth.width_mm:.1f} mm"
