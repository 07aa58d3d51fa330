"""Phrases about a model card that the report, its limits and its checklist share.

A value that the card lacks becomes "not recorded", never a guess. In the report on a site's own
images, the card's `data.site` describes these images, and `data.sides` holds nothing else. The
sentences are in `card_text.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from cspine.core import labels
from cspine.core.text import count_noun, count_slices

UNKNOWN = "not recorded"
# From the least to the most optimistic figures.
HEADLINE_ORDER = ("site", "test", "out-of-fold", "validation", "train")
# Splits on whose scores calibration and threshold were fitted.
CHOSEN_ON = ("out-of-fold", "validation", "train")
# With fewer patients, `data/split.py` makes no independent test set.
FEW_PATIENTS = 40
SYNTHETIC, PUBLISHED, RSNA = "phantom", "kaggle", "rsna"


def read_text(table: str) -> dict[str, Any]:
    """Return one table of `card_text.toml`, name → sentence."""
    path = Path(__file__).with_suffix(".toml")
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))[table]
    return found


def get(card: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """Return the card's value at a dotted path, `default` if any step is missing."""
    value: Any = card
    for step in path.split("."):
        # Cards of older versions lack parts; the report says so instead of failing.
        if not isinstance(value, Mapping) or step not in value:
            return default
        value = value[step]
    return value


def layout(card: Mapping[str, Any]) -> str:
    """Return the layout of the data that the model was trained on, "" if it is not recorded.

    Synthetic images count as SYNTHETIC in any layout.
    """
    is_synthetic = get(card, "domain") == labels.SYNTHETIC
    return SYNTHETIC if is_synthetic else str(get(card, "data.layout", ""))


def headline_split(names: Container[str]) -> str | None:
    """Return the split whose figures are the main ones: the first in HEADLINE_ORDER that exists."""
    return next((name for name in HEADLINE_ORDER if name in names), None)


def card_facts(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the phrases by name, each a plain string without markup."""
    size, kind, libraries = (
        get(card, "image_size", UNKNOWN),
        layout(card),
        get(card, "libraries", {}),
    )
    data, views = read_text("data"), read_text("view")
    return {
        "architecture": _text(card, "architecture"),
        "version": _text(card, "version"),
        "created": _text(card, "created_utc"),
        "view": views.get(str(get(card, "view")), UNKNOWN).format(size=size),
        "data": data.get(kind, data["other"] if kind else UNKNOWN).format(layout=kind),
        "fingerprint": _text(card, "data.fingerprint")[:16],
        "manifest": _text(card, "data.manifest_sha256")[:16],
        "patients": _counts(get(card, "data.patients")),
        "slices": _counts(get(card, "data.slices")),
        "split_note": _text(card, "data.split_note"),
        "weights": _weights(card),
        "calibration": _text(card, "decision.calibration.method"),
        "threshold": _threshold(card),
        "abstention": _write_number(
            get(card, "decision.conformal.alpha"),
            lambda alpha: (
                "conformal sets that contain the true class for "
                f"{100 * (1 - alpha):g} % of the slices of each class"
            ),
        ),
        "in_distribution": _write_number(
            get(card, "decision.in_distribution.quantile"),
            lambda share: (
                f"a distance limit that {100 * share:g} % of known images do not exceed, "
                "and checks of the image itself"
            ),
        ),
        "libraries": ", ".join(f"{k} {v}" for k, v in sorted(libraries.items())) or UNKNOWN,
        "seeds": _counts(get(card, "seeds")),
        "note": str(get(card, "note", "") or ""),
    }


def site_of(card: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what is known of a site's own images, None in the report of a training."""
    site: Mapping[str, Any] | None = get(card, "data.site")
    return site


def describe_basis(card: Mapping[str, Any]) -> str:
    """Return sentences on the slices and patients behind the main figures, "" if not recorded."""
    name = headline_split(get(card, "metrics", {}))
    side = get(card, "data.sides", {}).get(name)
    if side is None:
        return ""
    slices = side.get("distinct_slices", side["slices"])
    text = f"They are based on {count_slices(slices, side['patients'])}."
    if name in CHOSEN_ON:
        text += " Calibration and threshold were fitted on the same scores."
    return text


def seen_words(site: Mapping[str, Any]) -> str:
    """Return a sentence on how many of a site's slices the model has seen, "" if it saw none."""
    seen, slices = site["seen_in_training"], site["slices"]
    if seen == 0:
        return ""
    which = "unknown" if seen is None else "all" if seen == slices else "some"
    of_these = f"of these {count_noun(slices, 'slice')}"
    return str(read_text("seen")[which]).format(of_these=of_these, seen=seen)


def limits(card: Mapping[str, Any]) -> list[str]:
    """Return the limits of the figures as sentences, the most serious first."""
    site, text = site_of(card), read_text("limits")
    found = [_data_limit(card)] if site is None else _site_limits(card, site)
    found += _few_patients(card)
    share = calibrated_share(card) if site is None else site.get("calibrated_share")
    if share is not None:
        found.append(text["calibrated_share"].format(percent=100 * share))
    if headline_split(get(card, "metrics", {})) in CHOSEN_ON:
        found.append(text["no_test"])
    if get(card, "interrupted"):
        patients = get(card, "data.sides.out-of-fold.patients")
        sentence = text["interrupted_folds" if patients else "interrupted"]
        found.append(sentence.format(patients=patients))
    if site is None and get(card, "data.split_note"):
        found.append(f"Note on the split: {get(card, 'data.split_note')}")
    return [*found, *text["always"]]


def calibrated_share(card: Mapping[str, Any]) -> float | None:
    """Return the share of fractures, 0..1, in the slices that calibration was fitted on."""
    sides = get(card, "data.sides", {})
    for name in ("out-of-fold", "validation"):
        if sides.get(name, {}).get("fractures") is not None:
            return float(sides[name]["fractures"] / sides[name]["slices"])
    return None


def _few_patients(card: Mapping[str, Any]) -> list[str]:
    """Return a sentence if the main figures come from few patients."""
    name = headline_split(get(card, "metrics", {}))
    which, patients = f"The figures of “{name}”", get(card, f"data.sides.{name}.patients")
    if patients is None:
        which, patients = "All figures", _total(get(card, "data.patients"))
    if patients is None or patients >= FEW_PATIENTS:
        return []
    sentence = read_text("limits")["one_patient" if patients == 1 else "few_patients"]
    return [sentence.format(which=which, patients=count_noun(patients, "patient"))]


def _data_limit(card: Mapping[str, Any]) -> str:
    """Return the limit that is due to the data on which the model was trained and measured."""
    text = read_text("data_limits")
    return str(text.get(layout(card), text["other"])).format(
        slices=_counts(get(card, "data.slices")), patients=_counts(get(card, "data.patients"))
    )


def _site_limits(card: Mapping[str, Any], site: Mapping[str, Any]) -> list[str]:
    """Return the limits that are due to a site's images and to the model's training data."""
    text = read_text("data_limits")
    kind = "phantom_site" if site["layout"] == SYNTHETIC else site["layout"]
    about = text.get(kind, text["other"]).format(slices=site["slices"], patients=site["patients"])
    learned = f"The model was trained on {card_facts(card)['data']}."
    if layout(card) == SYNTHETIC:
        learned += f" {read_text('limits')['synthetic_model']}"
    return [sentence for sentence in (seen_words(site), about, learned) if sentence]


def _text(card: Mapping[str, Any], path: str) -> str:
    value = get(card, path)
    return UNKNOWN if value in (None, "") else str(value)


def _counts(value: Any) -> str:
    """Return a number, a list, or {name: number} as words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number}" for name, number in value.items()) or UNKNOWN
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or UNKNOWN
    return UNKNOWN if value is None else str(value)


def _total(value: Any) -> int | None:
    if isinstance(value, Mapping):
        numbers = [number for number in value.values() if isinstance(number, int)]
        return int(value.get("total", sum(numbers))) if numbers else None
    return value if isinstance(value, int) else None


def _weights(card: Mapping[str, Any]) -> str:
    origin = _text(card, "weights.origin")
    if origin == UNKNOWN:
        return "weights that are not recorded"
    return "random weights" if origin == "none" else f"the weights “{origin}”"


def _threshold(card: Mapping[str, Any]) -> str:
    value = get(card, "decision.threshold.value")
    if not isinstance(value, int | float):
        return UNKNOWN
    method, target = get(card, "decision.threshold.method"), get(card, "decision.threshold.target")
    if method == "sensitivity" and isinstance(target, int | float):
        return f"{value:.3f}, the highest that found {100 * target:g} % of held-out fractures"
    return f"{value:.3f}, where sensitivity + specificity − 1 was largest on held-out data"


def _write_number(value: Any, write: Callable[[float], str]) -> str:
    return write(value) if isinstance(value, int | float) else UNKNOWN
