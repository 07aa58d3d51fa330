"""What the phantom claims: densities, widths, labels that nothing else tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cspine.phantom.anatomy.bone import draw_bone
from cspine.phantom.anatomy.canvas import make_canvas, neck_plane
from cspine.phantom.anatomy.soft_tissue import draw_neck
from cspine.phantom.anatomy.vertebra import draw_vertebra, height_at
from cspine.phantom.config import PhantomConfig
from cspine.phantom.patient import Position, draw_labels, draw_patient, draw_positions
from cspine.phantom.render import render_patient
from cspine.phantom.scanner import acquire, noise_amplitude

C4 = Position(0, 3, 0.5, 0.0)


@pytest.fixture(scope="module")
def drawn():
    patient = draw_patient(1, 5)
    neck = draw_neck(neck_plane(patient, step=2), patient, C4)
    canvas = make_canvas(patient, neck.copy())
    return patient, neck, draw_bone(canvas, patient, C4, draw_vertebra(patient, 3))


@pytest.mark.parametrize("number", [3, 5, 8])
@pytest.mark.parametrize("scanned", [False, True])
def test_air_fat_and_muscle_have_their_densities_where_they_lie(number, scanned):
    patient = draw_patient(1, number)
    neck = draw_neck(neck_plane(patient, step=2), patient, C4)
    inside = ndimage.binary_fill_holes(neck > -500)
    depth = ndimage.distance_transform_edt(inside) * patient.spacing_mm
    deep = depth > patient.fat_mm + 12
    # Where fat planes take less than half: noise would pull a median of both towards their mean.
    flesh = deep & (neck > np.median(neck[deep]) - 30)
    if scanned:
        neck = acquire(neck, patient, C4, np.random.default_rng(0))
    # Below the skin, and well below the fat; what lies on the table is thin.
    assert np.median(neck[~inside]) == pytest.approx(-1000, abs=15)
    assert np.mean(neck[(depth > 3) & (depth < patient.fat_mm)]) == pytest.approx(-93, abs=9)
    assert np.mean(neck[flesh]) == pytest.approx(patient.muscle_hu, abs=6)


def test_cortex_and_marrow_have_their_densities(drawn):
    _, _, bone = drawn
    hu, depth = bone.spot.hu, -bone.distance
    assert 1000 <= np.median(hu[(depth > 0.4) & (depth < 0.6)]) <= 1500
    assert 200 <= np.mean(hu[depth > 2.5]) <= 350


def test_noise_has_the_deviation_that_the_protocol_says(drawn):
    patient, _, _ = drawn
    flat = np.zeros((512, 512), np.float32)
    noisy = acquire(flat, patient, C4, np.random.default_rng(0))
    assert noisy.std() == pytest.approx(patient.noise_hu, rel=0.03)
    assert noise_amplitude(patient, C4)[0, 0] == 0


def test_widths_are_log_uniform():
    config = PhantomConfig(slices_per_patient=12, fractured_share=1.0)
    items = [item for number in range(2) for item in render_patient(number, config)]
    widths = np.log([item.truth.width_mm for item in items])
    assert (widths >= np.log(0.2)).all() and (widths <= np.log(3)).all()
    assert np.mean(widths) == pytest.approx(np.log(0.2 * 3) / 2, abs=0.55)


def test_labels_have_the_share_asked_for_whatever_the_level():
    config, by_level = PhantomConfig(), [[] for _ in range(7)]
    for number in range(500):
        patient = draw_patient(1, number)
        positions = draw_positions(patient, 8)
        for position, label in zip(positions, draw_labels(patient, positions, config), strict=True):
            by_level[position.level].append(label)
    assert np.mean([label for labels in by_level for label in labels]) == pytest.approx(
        0.5, abs=0.04
    )
    assert [np.mean(labels) for labels in by_level] == pytest.approx([0.5] * 7, abs=0.1)


def test_as_many_patients_are_without_a_fracture_as_asked_for():
    config, fractured = PhantomConfig(fractured_share=1 / 3, normal_patients=0.5), []
    for number in range(500):
        patient = draw_patient(1, number)
        fractured.append(sum(draw_labels(patient, draw_positions(patient, 8), config)))
    # Of those who have a fracture one in 0.33⁸ would have none drawn.
    assert np.mean(np.array(fractured) > 0) == pytest.approx(0.5, abs=0.06)
    assert np.sum(fractured) / 4000 == pytest.approx(1 / 3, abs=0.04)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_fractured_patient_has_normal_slices_too(count):
    for number in range(200):
        patient = draw_patient(1, number)
        labels = draw_labels(patient, draw_positions(patient, count), PhantomConfig())
        assert not all(labels)
    everything = PhantomConfig(fractured_share=1.0)
    assert all(draw_labels(patient, draw_positions(patient, count), everything))


@pytest.fixture(scope="module")
def truths():
    config = PhantomConfig()
    return [item.truth for number in range(14) for item in render_patient(number, config)]


@pytest.mark.parametrize(("told", "share"), [("hard_negative", 0.75), ("is_swollen", 0.3)])
def test_what_merely_looks_like_a_fracture_is_as_frequent_in_either_class(truths, told, share):
    for label in (0, 1):
        found = [bool(getattr(truth, told)) for truth in truths if truth.label == label]
        assert np.mean(found) == pytest.approx(share, abs=3 * np.sqrt(0.25 / len(found)))


def test_every_fracture_can_be_seen():
    config = PhantomConfig(seed=1002, fractured_share=1.0)
    # Patient 26's first slice holds little bone, at the top of C1.
    for item in render_patient(26, config) + render_patient(4, config):
        assert item.mask.any() and item.truth.visible_length_mm > 2


def test_a_tilted_slice_passes_through_several_heights_of_a_vertebra():
    vertebra = draw_vertebra(draw_patient(1, 5), 3)
    leaning = replace(vertebra, lean=(0.01, 0.02))
    assert height_at(leaning, 0.4, -10.0, 20.0) == pytest.approx(0.4 - 0.1 + 0.4)
    leans = np.array([draw_vertebra(draw_patient(1, n), 3).lean for n in range(60)])
    degrees = np.degrees(np.arctan(leans * 17))
    assert (degrees.std(axis=0) > 2).all() and np.abs(degrees).max() < 30


def test_the_height_confound_is_complete():
    patient = draw_patient(1, 0)
    positions = draw_positions(patient, 20)
    labels = draw_labels(patient, positions, PhantomConfig(confound="height"))
    assert labels == [position.level < 3 for position in positions]
