"""Fields of a settings dataclass with help and rules, and the conversion of their values.

`setting` makes a field; the annotation is its type. `cast_values` converts text, TOML values or
values of the right type, checks them, and reports all faults in one error, one per line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, field, fields
from types import NoneType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, get_args, get_type_hints

from cspine.core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Type → its rule in words and the types that it is converted from. Others are refused: `int(1.7)`
# would round silently, and `bool("false")` is True.
_CASTS: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int, str)),
    float: ("a number", (float, int, str)),
    str: ("text that is not empty", (str, int, float)),
}


class Rules(TypedDict, total=False):
    """The rules for a value, or for each entry of a list."""

    choices: tuple[str, ...]  # the only values
    parse: Callable[[str], Any]  # used instead of the type; KeyError or ValueError: refused
    rule: str  # words for a message, instead of the type's
    unique: bool  # whether a list may hold each entry only once


def setting(
    default: Any, text: str, *bounds: float, secret: bool = False, **rules: Unpack[Rules]
) -> Any:
    """Return a dataclass field with its rules.

    Args:
        default: the value if none is given.
        text: the help.
        bounds: the least and the greatest number allowed; none for no bounds.
        secret: whether the value is left out of `repr` and of error messages.
        rules: see `Rules`.
    """
    metadata = {"help": text, "bounds": bounds, **rules}
    return field(default=default, repr=not secret, metadata=metadata)


def field_types(owner: type[DataclassInstance]) -> dict[str, Any]:
    """Return the type of each field by name, without `| None`."""
    hints = get_type_hints(owner).items()
    return {name: get_args(hint)[0] if NoneType in get_args(hint) else hint for name, hint in hints}


def describe_default(value: Any, words: tuple[str, str] = ("false", "true")) -> str | None:
    """Return a default as a user would write it, None if there is none.

    `words` are the texts of False and True.
    """
    if value is None or value in ((), ""):
        return None
    if isinstance(value, bool):
        return words[value]
    return ":".join(map(str, value)) if isinstance(value, tuple) else str(value)


def is_list(kind: Any) -> bool:
    """Return whether a type is `tuple[X, ...]`, a tuple of any length."""
    return get_args(kind)[1:] == (...,)


def cast_values(
    owner: type[DataclassInstance],
    given: Mapping[str, Any],
    name_of: Callable[[str], str] = str,
    faults: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the values of `given` by field name, converted to the field's type and checked.

    Args:
        owner: the dataclass.
        given: values by name. A list may be comma-separated text. None means no value.
        name_of: returns the name that a field has in `given`.
        faults: messages about faults that the caller has found; they are reported with the others.

    Raises:
        ConfigError: a name is unknown, or a value has the wrong type or breaks its rules; one line
            for each fault.
    """
    known = {name_of(spec.name): spec for spec in fields(owner)}
    types, values, found = field_types(owner), {}, list(faults)
    for name, value in given.items():
        try:
            if name not in known:
                raise _unknown_name(name, known)
            spec = known[name]
            if value is not None:
                values[spec.name] = _cast(name, spec, types[spec.name], value)
        except ConfigError as error:
            found.append(str(error))
    if found:
        raise ConfigError("\n".join(found))
    return values


def _cast(name: str, spec: Field[Any], kind: Any, value: Any) -> Any:
    if not is_list(kind):
        return _cast_one(name, spec, kind, value)
    given = value
    if isinstance(value, str):
        # Text without any entry stays text and is refused: an empty list of keys would let
        # every caller in.
        given = [entry.strip() for entry in value.split(",") if entry.strip()] or value
    if not isinstance(given, list | tuple):
        raise _fault(name, spec, "be a comma-separated list", value)
    entries = tuple(_cast_one(name, spec, get_args(kind)[0], one) for one in given)
    if "unique" in spec.metadata and len(set(entries)) < len(entries):
        raise _fault(name, spec, "name each entry only once", value)
    return entries


def _cast_one(name: str, spec: Field[Any], kind: Any, value: Any) -> Any:
    parse = spec.metadata.get("parse")
    try:
        if parse:
            # A tuple has already been parsed, since text and TOML hold no tuples.
            cast = value if isinstance(value, tuple) else parse(str(value))
        elif type(value) in _CASTS[kind][1]:
            cast = kind(value)
        else:
            raise TypeError
        if _is_allowed(spec, cast):
            return cast
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise _fault(name, spec, f"be {_describe(spec, kind)}", value)


def _is_allowed(spec: Field[Any], value: Any) -> bool:
    if bounds := spec.metadata["bounds"]:
        # The comparison is False for NaN.
        return bool(bounds[0] <= value <= bounds[1])
    # Empty text is refused, since an empty path would mean the current folder.
    return value in spec.metadata.get("choices", (value,)) and (value != "" or spec.default == "")


def _describe(spec: Field[Any], kind: Any) -> str:
    rules = spec.metadata
    if "choices" in rules:
        return f"one of {', '.join(rules['choices'])}"
    words = rules["rule"] if "rule" in rules else _CASTS[kind][0]
    return words + (" from {} to {}".format(*rules["bounds"]) if rules["bounds"] else "")


def _fault(name: str, spec: Field[Any], must: str, value: Any) -> ConfigError:
    # Only the fields of secrets are left out of `repr`.
    received = repr(value) if spec.repr else "a value that is not shown"
    return ConfigError(f"`{name}` must {must}. Received: {received}")


def _unknown_name(name: str, known: Mapping[str, Any]) -> ConfigError:
    # A misspelt name must not be ignored: the user would rely on a limit that is not set.
    near = difflib.get_close_matches(name, known, 1)
    # What others call the address and the port.
    if name.rpartition("_")[2] in ("PORT", "HOST", "ADDRESS", "BIND"):
        near = [other for other in known if other.endswith("_LISTEN")] or near
    hint = f". Did you mean `{near[0]}`?" if near else f": one of {', '.join(known)}."
    return ConfigError(f"A setting must have a known name{hint} Received: {name!r}")
