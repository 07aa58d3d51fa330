"""The audit of published-style phantoms: exact counts, straddling slices, and the planted confound.

`experiments/data/leaks.py` measures the same on larger sets.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

from cspine.data.audit.audit import audit_dataset
from cspine.data.index import scan_dataset
from cspine.data.layouts.filenames import parse_published
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.kaggle_layout import write_kaggle


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    config = PhantomConfig(patients=6, slices_per_patient=3, seed=4, variants=True)
    return write_kaggle(tmp_path_factory.mktemp("plain") / "set", config)


@pytest.fixture(scope="module")
def report(plain):
    return audit_dataset(scan_dataset(plain))


def test_slices_are_counted_exactly(report):
    assert (report.files, report.slices, report.volumes) == (6 * 3 * 21, 6 * 3, 6)
    assert not report.label_conflicts and not report.unreadable


def test_slices_on_both_sides_are_reported(plain, report):
    sides = defaultdict(set)
    for path in plain.rglob("*.png"):
        sides[parse_published(path.name).slice_id].add(path.parts[-3])
    straddling = {name for name, where in sides.items() if len(where) == 2}
    assert straddling and {leak.slice_id for leak in report.split_leaks} == straddling


def test_a_plain_set_has_no_confound(report):
    assert report.confounds == []


def test_the_height_confound_is_named(tmp_path):
    config = PhantomConfig(patients=6, slices_per_patient=7, seed=4, confound="height")
    report = audit_dataset(scan_dataset(write_kaggle(tmp_path / "set", config)))
    assert report.slices == 6 * 7
    assert "slice number" in report.confounds and report.shortcuts["slice number"].auroc > 0.99
