"""Hard negatives: a step of motion moves all that stands below it, the fracture as well."""

from __future__ import annotations

import numpy as np
import pytest

from cspine.phantom.config import PhantomConfig
from cspine.phantom.hard_negatives import HardNegative
from cspine.phantom.render import render_patient

CONFIG = PhantomConfig(slices_per_patient=8, fractured_share=1.0)


def test_a_step_moves_what_is_below_its_row_and_nothing_above():
    picture = np.zeros((12, 6), np.float32)
    picture[:, 2] = 100
    HardNegative("motion step", row=6, shift_px=1).move(picture)
    assert (picture[:5, 2] == 100).all() and (picture[8:, 3] == 100).all()
    assert picture[:5].sum() == 500 and (picture[8:, 2] == 0).all()
    assert picture[5:8, 2] == pytest.approx([500 / 6, 50, 100 / 6], rel=1e-5)


def test_a_mask_stays_a_mask():
    mask = np.zeros((12, 6), bool)
    mask[:, 2] = True
    HardNegative("motion step", row=6, shift_px=-2).move(mask)
    assert mask[:6, 2].all() and mask[8:, 0].all() and mask.any(axis=1).all()


def test_without_a_step_nothing_moves():
    picture = np.arange(24, dtype=np.float32).reshape(4, 6)
    before = picture.copy()
    HardNegative("nutrient canal").move(picture)
    assert (picture == before).all()


def test_a_fracture_moves_with_its_bone(monkeypatch):
    moved = render_patient(3, CONFIG)
    steps = []

    def note(self, picture):
        steps.append(self)

    monkeypatch.setattr(HardNegative, "move", note)
    still = render_patient(3, CONFIG)
    # Each slice moves its twin, itself and its mask.
    stepped = [(m, s, by) for m, s, by in zip(moved, still, steps[::3], strict=True) if by.name]
    assert any(by.shift_px for _, _, by in stepped)
    monkeypatch.undo()
    for after, before, by in stepped:
        change = before.ideal_hu - before.ideal_twin_hu
        mask = before.mask.copy()
        by.move(change)
        by.move(mask)
        # Not `pytest.approx`, which compares the pixels one by one.
        assert np.abs(after.ideal_hu - after.ideal_twin_hu - change).max() <= 0.01
        assert (after.mask == mask).all()
