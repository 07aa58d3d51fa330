"""Every valid value is read back from its text, and every other one is an error with its name."""

from dataclasses import dataclass, fields
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.core.errors import ConfigError
from cspine.core.serve_settings import PREFIX, ServeSettings, read_settings
from cspine.core.settings import cast_values, field_types, is_list, setting
from cspine.core.train_config import TrainConfig

SPECS = {spec.name: spec for owner in (ServeSettings, TrainConfig) for spec in fields(owner)}
TYPES = field_types(ServeSettings) | field_types(TrainConfig)
OF_TRAINING = {spec.name for spec in fields(TrainConfig)}
# Without commas and outer blanks, which separate the entries of a list.
WORDS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=","), min_size=1)
HOSTS = st.from_regex(r"[a-z0-9.]{1,20}", fullmatch=True)
METRICS = st.from_regex(r"[a-z_]{1,9}", fullmatch=True).filter(lambda name: name != "sensitivity")


def read(name, value):
    """The value of one field, read from the environment or from a file of training."""
    if name in OF_TRAINING:
        return getattr(TrainConfig(**cast_values(TrainConfig, {name: value})), name)
    return getattr(read_settings({"CSPINE_API_KEYS": "k", PREFIX + name.upper(): value}), name)


def valid(name):
    """Pairs of a field's value and its text, or what TOML has for it."""
    rules, kind = SPECS[name].metadata, TYPES[name]
    texts = st.sampled_from(rules["choices"]) if "choices" in rules else WORDS
    if name == "base_path":
        texts = st.from_regex(r"(/[A-Za-z0-9_-]+)+", fullmatch=True)
    if name == "cors_origins":
        texts = WORDS.map(lambda word: f"http://localhost:{1024 + len(word)}")
    if name in ("listen", "metrics_listen"):
        return st.tuples(HOSTS, st.integers(0, 65535)).map(lambda one: (one, f"{one[0]}:{one[1]}"))
    if name == "require":
        bars = st.tuples(METRICS, st.floats(allow_nan=False, allow_infinity=False))
        lists = st.lists(bars, min_size=1, unique=True)
        return lists.map(lambda some: (tuple(some), [f"{name}={bar!r}" for name, bar in some]))
    if name == "time_limit":
        units = st.sampled_from([("s", 1), ("m", 60), ("h", 3600), ("", 1)])
        pairs = st.tuples(st.integers(1, 10**6), units)
        return pairs.map(lambda one: (one[0] * one[1][1], f"{one[0]}{one[1][0]}"))
    if is_list(kind):
        lists = st.lists(texts, min_size=1, unique=True)
        return lists.map(lambda some: (tuple(some), ", ".join(some)))
    if kind is bool and name not in OF_TRAINING:
        return st.booleans().map(lambda one: (one, "on" if one else "off"))
    if kind is bool:
        return st.booleans().map(lambda one: (one, one))
    if kind in (int, float):
        number = st.integers if kind is int else st.floats
        return number(*rules["bounds"]).map(lambda one: (one, repr(one)))
    return texts.map(lambda one: (one, one))


def invalid(name):
    """Values that break the field's rules."""
    rules, kind = SPECS[name].metadata, TYPES[name]
    if rules["bounds"]:
        low, high = rules["bounds"]
        numbers = st.integers(max_value=int(low) - 1) | st.integers(min_value=int(high) + 1)
        others = st.sampled_from(["nan", "inf", "-inf", "many", "1.5.0", " ", "0x10"])
        return numbers.map(str) | others
    if "choices" in rules or "rule" in rules:
        return WORDS.filter(lambda text: not is_valid(name, text))
    if kind is bool:
        return st.sampled_from(["true", "false", "on", 1, 0.0])
    return st.just(",") if is_list(kind) else st.sampled_from([[], ["a"], {}, True])


def is_valid(name, text):
    """Whether text is one of the few words, or in the one form, that the field allows."""
    rules = SPECS[name].metadata
    if "choices" in rules:
        return (text if name in OF_TRAINING else text.lower()) in rules["choices"]
    host, _, port = text.rpartition(":")
    return text.lower() in ("on", "off") or bool(host and port) or text[0].isdigit() or "=" in text


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_value_is_read_back_from_its_text(name, data):
    value, text = data.draw(valid(name))
    assert read(name, text) == value


# Every text is a path.
@pytest.mark.parametrize("name", [name for name in SPECS if name not in ("model_dir", "card_key")])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_value_that_breaks_the_rules_is_an_error_with_its_name(name, data):
    shown = name if name in OF_TRAINING else PREFIX + name.upper()
    with pytest.raises(ConfigError, match=f"`{shown}` must "):
        read(name, data.draw(invalid(name)))


@pytest.mark.parametrize("name", [name for name in SPECS if is_list(TYPES[name])])
def test_no_entry_of_a_list_of_training_is_named_twice(name):
    entries = {"architectures": "cnn", "require": "auroc=0.9", "cors_origins": "https://a.org"}
    entry = entries.get(name, "a")
    if name in OF_TRAINING:
        with pytest.raises(ConfigError, match=f"`{name}` must name each entry only once"):
            read(name, [entry, entry])
    else:
        assert read(name, f"{entry},{entry}") == (entry, entry)


def test_the_value_of_a_secret_is_in_no_error():
    @dataclass(frozen=True)
    class Keys:
        keys: tuple[int, ...] = setting((), "keys", 1, 9, secret=True, unique=True)

    assert get_args(field_types(Keys)["keys"]) == (int, ...)
    for value in ("7777", "word7777", ["7777", "7777"], 7777, {"7777": 1}):
        with pytest.raises(ConfigError) as caught:
            cast_values(Keys, {"keys": value})
        assert "7777" not in str(caught.value) and caught.value.__cause__ is None
