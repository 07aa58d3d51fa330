"""Demonstration slices: a clear fracture and a normal slice of patients that are in no set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import PhantomSlice, Truth, draw_slices, render_slice
from cspine.phantom.writers.slice_png import encode_slice

# Written sets contain only patients with lower numbers.
_HELD_OUT = 1_000_000
_LEAST_WIDTH_MM, _LEAST_AREA_MM2 = 2.0, 20.0


@dataclass(frozen=True)
class DemoSlice:
    """A slice as PNG bytes, uint8 grey 512², with a file name and the truth."""

    name: str
    png: bytes
    truth: Truth


def demo_slices(seed: int = 1) -> tuple[DemoSlice, DemoSlice]:
    """Return a slice with a fracture at least 2 mm wide and a normal slice of another patient.

    Neither patient is in a written set. Both slices are clear cases, as a demonstration should be:
    at least 20 mm² of the fracture are visible, and the normal slice has no hard negative. Equal
    seeds give equal bytes.
    """
    # The configuration allows only wide fractures, because waiting for one by chance would take
    # long.
    config = PhantomConfig(seed=seed, min_width_mm=_LEAST_WIDTH_MM)
    fracture = _first(
        lambda s: (s.truth.visible_area_mm2 or 0) >= _LEAST_AREA_MM2, config, _HELD_OUT
    )
    # The second search starts at a number so far off that it never takes the patient of the first.
    normal = _first(
        lambda s: not s.truth.label and not s.truth.hard_negative, config, 2 * _HELD_OUT
    )
    return _packed(fracture), _packed(normal)


def _first(
    fits: Callable[[PhantomSlice], bool], config: PhantomConfig, number: int
) -> PhantomSlice:
    """Return the first slice for which `fits` is true, of the patients from `number` on."""
    patients = (draw_slices(patient, config) for patient in count(number))
    items = (render_slice(*drawn, config) for slices in patients for drawn in slices)
    return next(filter(fits, items))


def _packed(item: PhantomSlice) -> DemoSlice:
    return DemoSlice(f"{item.truth.slice_id}.png", encode_slice(item.grey), item.truth)
