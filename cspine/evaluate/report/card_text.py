"""What a card says, as the short phrases that the report, its limits and its checklist share.

A value that the card lacks becomes "not recorded", never a guess. On the page of a site's own
images the card's `data.site` says what they are, and `data.sides` holds them alone.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from cspine.core import labels
from cspine.core.text import count_noun, count_slices

UNKNOWN = "not recorded"
# From the least flattering to the most.
JUDGED_ORDER = ("site", "test", "out-of-fold", "validation", "train")
# Splits on whose scores the decision parts were fitted.
CHOSEN_ON = ("out-of-fold", "validation", "train")
# As in `data/split.py`: with fewer there is no independent test.
FEW_PATIENTS = 40
SYNTHETIC, PUBLISHED, RSNA = "phantom", "kaggle", "rsna"
_DATA = {
    SYNTHETIC: "synthetic axial CT slices of the neck (the project's own phantom), no real patient",
    PUBLISHED: "folders laid out as the published “Spine Fracture Prediction from C.T.”",
    RSNA: "the RSNA 2022 Cervical Spine Fracture Detection set",
}


def get(card: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """Return the card's value at a dotted path, `default` where any step is missing."""
    value: Any = card
    for step in path.split("."):
        # Cards of older versions lack parts; the report says so instead of failing.
        if not isinstance(value, Mapping) or step not in value:
            return default
        value = value[step]
    return value


def layout(card: Mapping[str, Any]) -> str:
    """Return the layout of the data that the model learned from, "" where not recorded.

    Synthetic images in any layout are SYNTHETIC.
    """
    is_synthetic = get(card, "domain") == labels.SYNTHETIC
    return SYNTHETIC if is_synthetic else str(get(card, "data.layout", ""))


def judged_split(names: Container[str]) -> str | None:
    """Return the split that figures are to be read from, the first there is of JUDGED_ORDER."""
    return next((name for name in JUDGED_ORDER if name in names), None)


def card_facts(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the phrases, each a plain string without markup."""
    view = str(get(card, "view", ""))
    size = get(card, "image_size", UNKNOWN)
    views = {
        "vertebra": f"a crop of {size} source pixels a side on the vertebra, not resized",
        "slice": f"the whole slice resized to {size} × {size} pixels",
    }
    kind = layout(card)
    libraries = get(card, "libraries", {})
    return {
        "architecture": _text(card, "architecture"),
        "version": _text(card, "version"),
        "created": _text(card, "created_utc"),
        "view": views.get(view, UNKNOWN),
        "data": _DATA.get(kind, f"a local data set (layout “{kind}”)" if kind else UNKNOWN),
        "fingerprint": _text(card, "data.fingerprint")[:16],
        "manifest": _text(card, "data.manifest_sha256")[:16],
        "patients": _counts(get(card, "data.patients")),
        "slices": _counts(get(card, "data.slices")),
        "split_note": _text(card, "data.split_note"),
        "weights": _weights(card),
        "calibration": _text(card, "decision.calibration.method"),
        "threshold": _threshold(card),
        "abstention": _abstention(card),
        "gate": _gate(card),
        "libraries": ", ".join(f"{k} {v}" for k, v in sorted(libraries.items())) or UNKNOWN,
        "seeds": _counts(get(card, "seeds")),
        "note": str(get(card, "note", "") or ""),
    }


def site_of(card: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what is known of a site's own images, None on the page of a training."""
    site: Mapping[str, Any] | None = get(card, "data.site")
    return site


def standing(card: Mapping[str, Any]) -> str:
    """Return in sentences what the figures to be read stand on, "" where not recorded."""
    name = judged_split(get(card, "metrics", {}))
    side = get(card, "data.sides", {}).get(name)
    if side is None:
        return ""
    slices = side.get("distinct_slices", side["slices"])
    told = f"They stand on {count_slices(slices, side['patients'])}."
    if name in CHOSEN_ON:
        told += " Calibration and threshold were fitted on these very scores."
    return told


def seen_words(site: Mapping[str, Any]) -> str:
    """Return in a sentence how many of a site's slices the model has seen, "" for none."""
    seen, slices = site["seen_in_training"], site["slices"]
    if seen is None:
        return "Whether the model has seen some of these images in its training is not recorded."
    if not seen:
        return ""
    told = f"Of these {count_noun(slices, 'slice')} the model has seen {seen} in its training"
    return told + (": no figure here counts." if seen == slices else ": the figures flatter it.")


def limits(card: Mapping[str, Any]) -> list[str]:
    """Return what the figures do not say, in sentences, the gravest first."""
    site = site_of(card)
    found = _data_limits(card) if site is None else _site_limits(card, site)
    found += _few_patients(card)
    share = calibrated_share(card) if site is None else site.get("calibrated_share")
    if share is not None:
        found.append(
            f"Probabilities are calibrated for slices of which {100 * share:.0f} % are fractured. "
            "Where fractures are rarer, as among the patients of a hospital, a probability is too "
            "high, and more of the slices that are called fracture are normal."
        )
    if judged_split(get(card, "metrics", {})) in CHOSEN_ON:
        found.append(
            "There is no independent test: architecture, number of epochs, calibration, threshold "
            "and abstention were chosen on the very scores that are shown, which flatters them."
        )
    if get(card, "interrupted"):
        judged = get(card, "data.sides.out-of-fold.patients")
        turns = f" Of the patients, {judged} had been left out in turn." if judged else ""
        found.append(f"The training was interrupted: it might have found a better model.{turns}")
    if site is None and get(card, "data.split_note"):
        found.append(f"How the data was split: {get(card, 'data.split_note')}")
    return [*found, *_ALWAYS]


def calibrated_share(card: Mapping[str, Any]) -> float | None:
    """Return the share of fractures, 0..1, of the slices that calibration was fitted on."""
    sides = get(card, "data.sides", {})
    for name in ("out-of-fold", "validation"):
        if sides.get(name, {}).get("fractures") is not None:
            return float(sides[name]["fractures"] / sides[name]["slices"])
    return None


def _few_patients(card: Mapping[str, Any]) -> list[str]:
    """Return a sentence where the figures to be read stand on few patients."""
    name = judged_split(get(card, "metrics", {}))
    which, patients = f"The figures of “{name}”", get(card, f"data.sides.{name}.patients")
    if patients is None:
        which, patients = "All figures", _total(get(card, "data.patients"))
    if patients is None or patients >= FEW_PATIENTS:
        return []
    told = "An interval over so few is rough, and a percentile bootstrap makes it too narrow."
    if patients == 1:
        told = "There is no interval, and another patient may give quite other figures."
    return [f"{which} stand on {count_noun(patients, 'patient')}. {told}"]


def _data_limits(card: Mapping[str, Any]) -> list[str]:
    """Return what follows from the data that the model learned from and was measured on."""
    kind = layout(card)
    if kind == PUBLISHED:
        return [_published_limit(get(card, "data.slices"), get(card, "data.patients"))]
    return [_DATA_LIMITS.get(kind, _OWN_DATA)]


def _site_limits(card: Mapping[str, Any], site: Mapping[str, Any]) -> list[str]:
    """Return what follows from a site's images, and from what the model had learned from."""
    about = _published_limit(site["slices"], site["patients"])
    if site["layout"] != PUBLISHED:
        about = {**_DATA_LIMITS, SYNTHETIC: _SYNTHETIC_SITE}.get(site["layout"], _OWN_DATA)
    strange = (
        " On this page it scores every image. Served, it names no class for an image that does not "
        "have the mark of a synthetic one."
    )
    learned = f"The model learned from {card_facts(card)['data']}."
    found = [seen_words(site), about, learned + strange * (layout(card) == SYNTHETIC)]
    return [sentence for sentence in found if sentence]


def _published_limit(slices: Any, patients: Any) -> str:
    return (
        "The set is laid out as the published folders are. Those are 200 slices of about four "
        "patients, and the slice number alone separates their classes: a model can score 1.00 "
        f"there without having seen a fracture. This set: slices {_counts(slices)}, patients "
        f"{_counts(patients)}. Unless its audit says otherwise, its figures show that the system "
        "runs, not that it finds fractures."
    )


_DATA_LIMITS = {
    SYNTHETIC: (
        "The model learned from synthetic images alone. Its figures say that the method works on "
        "images whose truth is known; they say nothing about how it would do on a real patient. "
        "Served, it names no class for an image that does not have the mark of a synthetic one."
    ),
    RSNA: (
        "Labels of the RSNA 2022 set are by study and vertebra; a slice counts as fractured where "
        "it lies inside a boxed range, so some slices are labelled by their neighbours."
    ),
}
_SYNTHETIC_SITE = (
    "These images are synthetic: their truth is known, and figures on them say nothing about how "
    "the model would do on a real patient."
)
_OWN_DATA = (
    "The labels are taken as they were given; how they were made, and by whom, is for those who "
    "made them to say."
)
_ALWAYS = (
    "One slice is judged at a time. A radiologist reads the whole study, in several planes.",
    "Only axial CT of the neck, bone visible, is meant. Anything else should be refused as not in "
    "distribution; that gate is a statistical one and can be passed by chance.",
    "The share of “uncertain” answers and the coverage of the sets hold for images like those of "
    "validation. A new scanner, window or population can break both without any warning.",
    "A heat map shows where the evidence was found, not that there is a fracture.",
    "No figure by age, sex, scanner or hospital is given, since the data does not say them.",
)


def _text(card: Mapping[str, Any], path: str) -> str:
    value = get(card, path)
    return UNKNOWN if value in (None, "") else str(value)


def _counts(value: Any) -> str:
    """Return a number, or {name: number} as words."""
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
    return "random weights" if origin == "none" else f"the weights {origin}"


def _threshold(card: Mapping[str, Any]) -> str:
    value = get(card, "decision.threshold.value")
    if not isinstance(value, int | float):
        return UNKNOWN
    method, target = get(card, "decision.threshold.method"), get(card, "decision.threshold.target")
    if method == "sensitivity" and isinstance(target, int | float):
        return f"{value:.3f}, the highest at which {100 * target:g} % of fractures are called"
    return f"{value:.3f}, by the largest sensitivity + specificity − 1"


def _abstention(card: Mapping[str, Any]) -> str:
    alpha = get(card, "decision.conformal.alpha")
    if not isinstance(alpha, int | float):
        return UNKNOWN
    return f"conformal sets that hold the true class for {100 * (1 - alpha):g} % of each class"


def _gate(card: Mapping[str, Any]) -> str:
    quantile = get(card, "decision.in_distribution.quantile")
    if not isinstance(quantile, int | float):
        return UNKNOWN
    return f"a distance that {100 * quantile:g} % of known images stay under, and image checks"
