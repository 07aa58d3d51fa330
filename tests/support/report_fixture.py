"""Report inputs with every part filled, from made-up scores; names are hostile on purpose."""

import numpy as np

from cspine.evaluate.metrics import METRICS, compute_metrics
from cspine.evaluate.report.inputs import Mistake, ReportInputs, SplitScores, worst_mistakes

HOSTILE = "<script>alert('x')</script>$&\"{{7*7}}.png"
RESAMPLES = 40


def make_split(name: str, seed: int, patients: int = 40) -> SplitScores:
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"p{i:03d}" for i in range(patients)], 8)
    labels = ((np.arange(len(groups)) % 8 < 3) & (np.arange(len(groups)) // 8 % 2 == 0)).astype(int)
    widths = np.where(labels == 1, np.exp(rng.uniform(np.log(0.2), np.log(3), len(labels))), np.nan)
    logits = (
        rng.normal(0, 1.2, len(labels))
        + labels * (1.5 + 2 * np.log(np.nan_to_num(widths, nan=1) + 0.6))
        - 1
    )
    p = 1 / (1 + np.exp(-logits))
    p[5] = np.nan
    said = np.where(p > 0.6, "fracture", np.where(p < 0.3, "normal", "uncertain"))
    return SplitScores(name, labels, p, groups, widths, said.tolist(), np.isfinite(p))


def figures(split: SplitScores) -> dict:
    known = split.scored()
    found = compute_metrics(known.labels, known.probabilities, 0.4, known.groups, RESAMPLES)
    return {name: interval.to_dict() for name, interval in found.items()}


def make_card(splits, **more) -> dict:
    return {
        "version": "0123456789ab",
        "created_utc": "2026-01-02T03:04:05Z",
        "architecture": "cnn",
        "note": "demo model, trained on synthetic images",
        "view": "vertebra",
        "image_size": 192,
        "weights": {"origin": "random, from the seed"},
        "decision": {
            "calibration": {"method": "platt", "scale": 1.0, "offset": 0.0},
            "threshold": {"value": 0.4, "method": "sensitivity", "target": 0.95},
            "conformal": {"alpha": 0.1, "quantiles": {"normal": 0.5, "fracture": 0.6}},
            "in_distribution": {"threshold": 2.0, "quantile": 0.995, "scaling": "log"},
        },
        "metrics": {split.name: figures(split) for split in splits},
        "data": {
            "layout": "phantom",
            "fingerprint": "f" * 64,
            "manifest_sha256": "a" * 64,
            "patients": {"train": 100, "validation": 40, "test": 40},
            "slices": {"train": 800, "validation": 320, "test": 320},
            "split_note": "By patient; no patient is on two sides.",
        },
        "seeds": {"training": 0, "phantom": 1},
        "libraries": {"keras": "3.15.1", "numpy": "2.4"},
        "controls": {"random_labels": {"value": 0.51, "low": 0.44, "high": 0.57}},
        "precision": {"chosen": "bf16", "f32": {"auroc": 0.91}, "bf16": {"auroc": 0.909}},
        **more,
    }


def make_inputs(**more) -> ReportInputs:
    splits = [make_split(name, seed) for seed, name in enumerate(("train", "validation", "test"))]
    card = make_card(splits)
    test = splits[-1]
    rng = np.random.default_rng(9)
    image = np.clip(rng.normal(120, 40, (96, 96)), 0, 255).astype(np.uint8)
    heat = np.zeros((96, 96), np.uint8)
    heat[30:50, 40:60] = 255
    mistakes = [
        Mistake(
            HOSTILE if n == 0 else f"p{i}/slice.png",
            "fracture" if test.labels[i] else "normal",
            "uncertain",
            float(test.probabilities[i]),
            image,
            heat if n != 1 else None,
            "body, 0.4 mm",
        )
        for n, i in enumerate(
            worst_mistakes(test.labels, test.probabilities, 0.4, np.arange(len(test.labels)))
        )
    ]
    epochs = np.linspace(1, 0.3, 12)
    history = {
        "loss": epochs,
        "val_loss": epochs + 0.1,
        "auroc": 1 - epochs / 2,
        "val_auroc": 1 - epochs / 1.8,
    }
    values = {
        "card": card,
        "splits": splits,
        "candidates": {"cnn": card["metrics"], "xception": card["metrics"]},
        "leaderboard": [
            {"candidate": "cnn", "auroc": 0.912345, "seconds": 61},
            {"candidate": HOSTILE, "auroc": None, "seconds": 600},
        ],
        "histories": {"cnn": history, "x$y": history},
        "mistakes": mistakes,
        "audit": {
            "files": 4200,
            "slices": 200,
            "volumes": 4,
            "unreadable": {HOSTILE: "cut off"},
            "split_leaks": [{"slice": "B10 (18)", "sides": {"train": [HOSTILE], "test": ["b"]}}],
            "shortcut_auroc": 0.991,
        },
        **more,
    }
    assert set(METRICS) == set(card["metrics"]["test"])
    return ReportInputs(**values)
