"""The settings of a training run: one frozen dataclass that flags, defaults and help come from.

Each field carries its own help and bounds; `core/cli_flags.py` turns those of a flag group into
command-line flags. Nothing here knows a room: whether an image size suits an architecture, or a
folder holds a data set, is for those who use the value to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from cspine.core.errors import ConfigError
from cspine.core.text import parse_duration, parse_requirement

# As in `model/networks/architectures.py`, which the lowest room cannot import.
ARCHITECTURE_NAMES = ("cnn", "resnet50v2", "inceptionv3", "xception")


def _setting(default: Any, text: str, group: str = "", **rules: Any) -> Any:
    """A dataclass field with its help text, flag group and rules (`low`, `high`, `choices`, …)."""
    return field(default=default, metadata={"help": text, "group": group, **rules})


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one training run; see each field's help. `None` means "decided by the data".

    Raises:
        ConfigError: a value is outside its bounds; the text names field, rule and value.
    """

    data: str | None = _setting(
        None,
        "a folder, a ZIP, a CSV, `phantom` or `kaggle`; without it `data/` where a known layout "
        "lies there, else `phantom`",
        "data",
    )
    view: str | None = _setting(
        None,
        "crop the vertebra at native resolution, or resize the whole slice; by default what "
        "suits the data",
        "data",
        choices=("vertebra", "slice"),
    )
    split: str = _setting(
        "grouped",
        "by patient, or as published (which may leak, and is then said beside every figure)",
        "data",
        choices=("grouped", "published"),
    )
    skip_unreadable: bool = _setting(
        False,
        "leave out files that cannot be read, and list them",
        "data",
    )
    architectures: tuple[str, ...] | None = _setting(
        None,
        "the candidates; all four, but `cnn` alone where no --data is given",
        "model",
        choices=ARCHITECTURE_NAMES,
    )
    weights: str = _setting(
        "imagenet",
        "`imagenet`, `none`, or a folder of Keras *_notop.h5 files; `cnn` starts from "
        "scratch always",
        "model",
    )
    image_size: int | None = _setting(
        None,
        "pixels a side that the network sees; by default each architecture's own",
        "model",
        # The smallest that any network here can halve five times; each one's own least is checked
        # later, where architectures are known.
        low=32,
        high=1024,
    )
    epochs: int | None = _setting(
        None,
        "passes over the training set, at most; 20 by default",
        "training",
        low=1,
        high=10_000,
    )
    batch_size: int = _setting(32, "images a step", "training", low=1, high=4096)
    time_limit: int | None = _setting(
        None,
        "stop fitting after this long, all candidates together: 90s, 10m, 2h",
        "training",
        parse=parse_duration,
    )
    seed: int = _setting(
        0,
        "the same seed gives the same weights",
        "training",
        low=0,
        high=2**31 - 1,
    )
    devices: int | None = _setting(
        None,
        "train on this many devices (JAX backend)",
        "training",
        low=1,
        high=1024,
    )
    resume: bool = _setting(False, "go on from the last checkpoint in OUT/run", "training")
    out: str = _setting("models", "where the model, its card and its report go", "results")
    require: tuple[tuple[str, float], ...] = _setting(
        (),
        "fail with exit code 1 unless the model reaches this, e.g. auroc=0.9",
        "results",
        parse=parse_requirement,
    )
    controls: bool = _setting(
        False,
        "also train on random labels, which must end at chance",
        "results",
    )

    note: str = _setting("", "a sentence that stands in the card and with every answer")
    cache: str = _setting("build/cache", "folder for decoded crops and activations")
    patients: int = _setting(240, "patients of the phantom set", low=4, high=100_000)
    phantom_seed: int = _setting(1, "seed of the phantom set", low=0, high=2**31 - 1)
    learning_rate: float = _setting(3e-3, "peak rate of `cnn`", low=1e-7, high=1.0)
    head_learning_rate: float = _setting(
        1e-3,
        "rate of a new head on a frozen backbone",
        low=1e-7,
        high=1.0,
    )
    # Far below the head's: what was learned before is to be adjusted, not replaced.
    tune_learning_rate: float = _setting(
        5e-5,
        "rate of fine-tuning a backbone's top",
        low=1e-8,
        high=1.0,
    )
    tune_epochs: int = _setting(10, "epochs of fine-tuning, at most", low=0, high=1000)
    weight_decay: float = _setting(1e-3, "AdamW's decoupled decay", low=0.0, high=1.0)
    warmup: float = _setting(0.05, "share of the steps in which the rate rises", low=0.0, high=0.9)
    dropout: float = _setting(0.2, "dropout before the logit", low=0.0, high=0.9)
    map_weight: float = _setting(
        1.0,
        "weight of the map loss beside the label loss",
        low=0.0,
        high=1000.0,
    )
    # A fracture fills a few of the map's 576 cells: unweighted, "nothing anywhere" would be a good
    # map.
    map_positive_weight: float = _setting(
        20.0,
        "weight of a fracture's cells in the map loss",
        low=1.0,
        high=10_000.0,
    )
    twins: bool = _setting(True, "also learn each fractured phantom's twin without the fracture")
    augment: bool = _setting(True, "flip, shift, re-window and add noise at training time")
    augmented_copies: int = _setting(
        2,
        "copies of each image whose activations are cached for a frozen trunk",
        low=1,
        high=64,
    )
    patience: int = _setting(
        12,
        "epochs without a better validation AUROC before stopping",
        low=1,
        high=1000,
    )
    threshold_method: str = _setting(
        "sensitivity",
        "how the threshold is chosen on validation",
        choices=("sensitivity", "youden"),
    )
    # A missed fracture costs more than a slice that is looked at twice.
    target_sensitivity: float = _setting(
        0.95,
        "sensitivity the threshold is chosen for",
        low=0.5,
        high=1.0,
    )
    # One in ten of a class: less, and small validation sets leave every answer uncertain.
    conformal_alpha: float = _setting(
        0.1,
        "share of each class that its conformal set may miss",
        low=0.001,
        high=0.5,
    )
    # 5 slices in 1,000 of those that the threshold is set on count as strangers: the bar for
    # slices of new patients is 1 %, and the checks of the picture take their part of it.
    in_distribution_quantile: float = _setting(
        0.995,
        "share of held-out images that count as known",
        low=0.5,
        high=1.0,
    )
    resamples: int = _setting(
        1000,
        "bootstrap resamples behind every interval",
        low=10,
        high=100_000,
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            _check_value(spec, getattr(self, spec.name))

    def seen_architectures(self) -> tuple[str, ...]:
        """The candidates to train: those named, else all four, or `cnn` alone on default data."""
        if self.architectures:
            return self.architectures
        return ARCHITECTURE_NAMES if self.data else ("cnn",)


def _check_value(spec: Field[Any], value: Any) -> None:
    """Raise ConfigError where `value` breaks the field's rules; None and an empty tuple pass."""
    rules = spec.metadata
    # A tuple's rule is each entry's.
    values = value if isinstance(value, tuple) else (value,)
    if len(set(values)) < len(values):
        named = " ".join(map(str, values))
        raise ConfigError(f"`{spec.name}` must name each once. Received: {named}")
    for one in values:
        if one is None:
            continue
        # An empty path would be the folder one stands in.
        if one == "" and spec.default != "":
            raise ConfigError(f"`{spec.name}` must not be empty. Received: ''")
        if "choices" in rules and one not in rules["choices"]:
            known = ", ".join(rules["choices"])
            raise ConfigError(f"`{spec.name}` must be one of {known}. Received: {one!r}")
        if "low" in rules and not rules["low"] <= one <= rules["high"]:
            bounds = f"from {rules['low']} to {rules['high']}"
            raise ConfigError(f"`{spec.name}` must be {bounds}. Received: {one!r}")


def make_config(given: Mapping[str, Any]) -> TrainConfig:
    """Build a TrainConfig from named values (text from flags, or typed from TOML).

    Raises:
        ConfigError: a name is unknown, or a value has the wrong type or breaks its rules.
    """
    known = {spec.name: spec for spec in fields(TrainConfig)}
    for name in given:
        if name not in known:
            raise ConfigError(f"A setting must be a field of TrainConfig. Received: {name!r}")
    # Through the defaults' own constructor, so that bounds are checked once and in one place.
    return replace(TrainConfig(), **{k: _cast(known[k], v) for k, v in given.items()})


def _cast(spec: Field[Any], value: Any) -> Any:
    """Return `value` as the field's type, or raise ConfigError naming both."""
    # Annotations are text under `from __future__ import annotations`, so types are compared as
    # text.
    kind = str(spec.type).replace(" | None", "")
    parse = spec.metadata.get("parse", str)
    try:
        if kind.startswith("tuple"):
            return tuple(parse(one) for one in ([value] if isinstance(value, str) else value))
        if "parse" in spec.metadata:
            return parse(str(value))
        # TOML has booleans; `"false"` in quotes would be true, and `true` as a number 1.
        is_other = isinstance(value, bool) != (kind == "bool")
        # `1.7` would become 1 in silence.
        if is_other or (kind == "int" and isinstance(value, float)):
            raise ValueError
        return {"int": int, "float": float, "bool": bool, "str": str}[kind](value)
    except (TypeError, ValueError):
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        raise ConfigError(
            f"`{spec.name}` must be {wanted.get(kind, kind)}. Received: {value!r}"
        ) from None
