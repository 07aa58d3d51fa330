"""Measure on phantoms how copies of a slice on both sides of a split inflate a score.

    python -m experiments.data.leaks [--parts published random] [--patients 12] [--slices 8]
        [--new 24] [--random 252] [--copies 6] [--data DIR] [--out FILE]

1. The audit of two sets with 21 files per slice: a plain one, and one in which the height in the
   neck determines the label. Reported: the number of slices found, the slices on both sides of the
   split, and the confounds that the audit names.
2. A classifier that can only memorise (it returns the label of the most similar thumbnail), on the
   plain set: its accuracy in cross-validation by file and by patient, and how much each exceeds its
   accuracy on new patients.
3. The same classifier with random labels, one label per slice and its copies: its AUROC in
   cross-validation by file and by patient. The copies, of 224² pixels, are made from the slices of
   `--data`, a grouped phantom set. Without `--data`, such a set is written first.

`--parts published` runs 1 and 2, `--parts random` runs 3.

Intervals are 95 %, by bootstrap over patients; two independent groups of patients are resampled
independently. The split by file is five shuffled folds, as a random split of the files of a folder
would be. Prints JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.model_selection import GroupKFold, KFold

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from cspine.data.audit.audit import audit_dataset
from cspine.data.audit.descriptors import resize
from cspine.data.index import scan_dataset
from cspine.data.layouts.filenames import parse_published
from cspine.data.records import Dataset
from cspine.data.split import keep_originals
from cspine.evaluate.metrics import compute_metrics
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped
from cspine.phantom.writers.kaggle_layout import PUBLISHED_SIDE_PX, make_variants, write_kaggle
from cspine.stats.bootstrap import draw_weights, group_codes
from cspine.stats.intervals import Interval, percentile_interval

# A thumbnail of 16 × 16 pixels shows the slice's shape but no fracture.
FOLDS, SIDE_PX, RESAMPLES = 5, 16, 2000
Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Files:
    """N files: thumbnails, float32 (N, 256) of mean 0 and length 1, and labels, int (N,).

    `slices` and `patients`, str (N,), name each file's slice and patient.
    """

    thumbnails: np.ndarray
    labels: np.ndarray
    slices: np.ndarray
    patients: np.ndarray

    def take(self, rows: np.ndarray) -> Files:
        """Return the files with the given indices."""
        parts = self.thumbnails, self.labels, self.slices, self.patients
        return Files(*(part[rows] for part in parts))


def thumbnail(picture: Image.Image) -> np.ndarray:
    """Return float32 (256,): the picture at 16 × 16 pixels, with mean 0 and length 1."""
    values = resize(np.asarray(picture.convert("L")), SIDE_PX).ravel().astype(np.float32)
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


def read_files(dataset: Dataset, originals_only: bool = False) -> Files:
    """Read every labelled file of a set in the published layout, or only the originals."""
    records = keep_originals(dataset.records) if originals_only else dataset.records
    return Files(
        np.array([thumbnail(Image.open(dataset.root / r.path)) for r in records]),
        np.array([r.label for r in records]),
        np.array([r.slice_id for r in records]),
        np.array([r.patient_id for r in records]),
    )


def memorise(train: Files, seen: np.ndarray) -> np.ndarray:
    """Return P(fracture) of each row of `seen` from the distances to its nearest training files.

    It is the distance to the nearest normal file, divided by the sum of that distance and the
    distance to the nearest fractured file.
    """
    scores = []
    for part in np.array_split(seen, max(1, len(seen) // 1000)):
        # Thumbnails have length 1, so the product is the correlation.
        alike = part @ train.thumbnails.T
        apart = [1 - alike[:, train.labels == label].max(axis=1) for label in (0, 1)]
        # The small terms give 0.5 if both distances are 0.
        scores.append((apart[0] + 1e-9) / (apart[0] + apart[1] + 2e-9))
    return np.concatenate(scores)


def cross_validate(files: Files, folds: Iterable[Fold]) -> np.ndarray:
    """Return P(fracture) of each file, memorised from the files of the other folds."""
    scores = np.full(len(files.labels), np.nan)
    for train, held_out in folds:
        scores[held_out] = memorise(files.take(train), files.thumbnails[held_out])
    return scores


def folds_by_file(files: Files) -> Iterator[Fold]:
    """Return five shuffled folds of files, which spread the copies of a slice over the folds."""
    return KFold(FOLDS, shuffle=True, random_state=0).split(files.labels)


def folds_by_patient(files: Files) -> Iterator[Fold]:
    """Return five folds of patients."""
    return GroupKFold(FOLDS).split(files.labels, groups=files.patients)


def accuracy_draws(files: Files, scores: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """Return the accuracy, and its values (R,) in bootstrap resamples of the patients."""
    correct = ((scores >= 0.5) == files.labels).astype(np.float64)
    codes = group_codes(files.patients, len(correct))
    # `draw_weights` yields blocks of r resamples; each block gives accuracies (r,).
    draws = [w @ correct / w.sum(axis=1) for w in draw_weights(codes, RESAMPLES, seed)]
    return float(correct.mean()), np.concatenate(draws)


def compare_with_new(files: Files, folds: Iterable[Fold], new: Files) -> dict[str, object]:
    """Return the cross-validated accuracy, the accuracy on new patients, and the difference."""
    value, draws = accuracy_draws(files, cross_validate(files, folds), seed=0)
    # The new patients are independent of the others, so they are resampled with another seed.
    new_value, new_draws = accuracy_draws(new, memorise(files, new.thumbnails), seed=1)
    return {
        "files": len(files.labels),
        "cross_validated": shown(percentile_interval(value, draws)),
        "new_patients": shown(percentile_interval(new_value, new_draws)),
        "difference": shown(percentile_interval(value - new_value, draws - new_draws)),
    }


def shown(interval: Interval) -> dict[str, float | None]:
    """Return an interval as rounded JSON numbers."""
    return {name: value and round(value, 4) for name, value in interval.to_dict().items()}


def measure_audit(root: Path, config: PhantomConfig) -> dict[str, object]:
    """Return the audit's findings on a written set, and whether they match the file names."""
    sides: dict[str, set[str]] = defaultdict(set)
    for path in root.rglob("*.png"):
        # The path is …/<split>/<class>/<file>.
        if name := parse_published(path.name):
            sides[name.slice_id].add(path.parts[-3])
    straddling = sorted(name for name, where in sides.items() if len(where) > 1)
    report = audit_dataset(scan_dataset(root))
    leaks = sorted(leak.slice_id for leak in report.split_leaks)
    return {
        "files": report.files,
        "slices": report.slices,
        "volumes": report.volumes,
        "slices_written": config.patients * config.slices_per_patient,
        "straddling": leaks,
        "straddling_is_exact": leaks == straddling,
        "shortcuts": {
            name: {"auroc": round(s.auroc, 4), "low": round(s.low, 4)}
            for name, s in report.shortcuts.items()
            if s
        },
        "confounds_named": report.confounds,
    }


def measure_published(scratch: Path, patients: int, slices: int, new: int) -> dict[str, object]:
    """Run parts 1 and 2: the audits, and the memorising classifier's scores on the plain set."""
    plain = PhantomConfig(patients, slices, seed=31, variants=True)
    height = replace(plain, confound="height")
    # Another seed gives patients that are in neither set.
    unseen = PhantomConfig(seed=32, patients=new, slices_per_patient=slices)
    roots = {
        name: write_kaggle(scratch / name, config)
        for name, config in (("plain", plain), ("height", height), ("new", unseen))
    }
    dataset = scan_dataset(roots["plain"])
    files, originals = read_files(dataset), read_files(dataset, originals_only=True)
    strangers = read_files(scan_dataset(roots["new"]), originals_only=True)
    return {
        "audit": {
            "plain": measure_audit(roots["plain"], plain),
            "height": measure_audit(roots["height"], height),
        },
        "accuracy": {
            "patients": patients,
            "new_patients": new,
            "by_file": compare_with_new(files, folds_by_file(files), strangers),
            "by_patient": compare_with_new(originals, folds_by_patient(originals), strangers),
        },
    }


def read_copies(folder: Path, patients: int, count: int, seed: int = 0) -> Files:
    """Make `count` copies of each slice of the first patients of a grouped set.

    The labels are random, one per slice.
    """
    rng = np.random.default_rng(seed)
    paths = sorted((folder / "images").glob("*.png"))
    known = sorted({path.stem.split("_")[0] for path in paths})[:patients]
    thumbnails, labels, slices, owners = [], [], [], []
    for path in (p for p in paths if p.stem.split("_")[0] in known):
        small = Image.open(path).resize((PUBLISHED_SIDE_PX,) * 2, Image.Resampling.BICUBIC)
        copies = list(make_variants(small, rng).values())[:count]
        thumbnails += [thumbnail(copy) for copy in copies]
        # All copies of a slice share its random label, so that it can only be memorised.
        labels += [int(rng.integers(2))] * len(copies)
        slices += [path.stem] * len(copies)
        owners += [path.stem.split("_")[0]] * len(copies)
    return Files(np.array(thumbnails), np.array(labels), np.array(slices), np.array(owners))


def measure_random_labels(folder: Path, patients: int, copies: int) -> dict[str, object]:
    """Run part 3: the AUROC with random labels."""
    files = read_copies(folder, patients, copies)
    found: dict[str, object] = {
        "files": len(files.labels),
        "slices": len(np.unique(files.slices)),
        "patients": patients,
    }
    for name, folds in (("by_file", folds_by_file), ("by_patient", folds_by_patient)):
        scores = cross_validate(files, folds(files))
        figures = compute_metrics(files.labels, scores, 0.5, files.patients, resamples=500)
        found[f"auroc_{name}"] = shown(figures["auroc"])
    return found


def main() -> None:
    """Run the chosen parts and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["published", "random"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--patients", type=int, default=12, help="patients of parts 1 and 2")
    parser.add_argument("--slices", type=int, default=8, help="slices per patient")
    parser.add_argument("--new", type=int, default=24, help="new patients of part 2")
    parser.add_argument("--data", type=Path, help="a grouped phantom set for the random labels")
    parser.add_argument("--random", type=int, default=252, help="patients for the random labels")
    parser.add_argument("--copies", type=int, default=6, help="files per slice of part 3")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    found: dict[str, object] = {"machine": describe_machine()}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if "published" in args.parts:
            found |= measure_published(scratch, args.patients, args.slices, args.new)
        if "random" in args.parts:
            config = PhantomConfig(patients=args.random, seed=33)
            folder = args.data or write_grouped(scratch / "grouped", config)
            found["random_labels"] = measure_random_labels(folder, args.random, args.copies)
    print_figures(found, args.out)


if __name__ == "__main__":
    main()
