"""The command line of a training run, generated from TrainConfig, and the reader of `--config`.

The fields in FLAG_GROUPS become flags; all other fields can be set only in the TOML file. Entry
points pass in the arguments; `sys.argv` is not read here.
"""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

import cspine
from cspine.core.errors import ConfigError
from cspine.core.settings import cast_values, field_types, is_list
from cspine.core.train_config import TrainConfig

FLAG_GROUPS = {
    "data": ("data", "view", "split", "skip_unreadable"),
    "model": ("architectures", "weights", "image_size"),
    "training": ("epochs", "batch_size", "time_limit", "seed", "devices", "resume"),
    "results": ("out", "require", "controls"),
}


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that raises a ConfigError of one line for a wrong argument."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with argparse's own message."""
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        known = list_flags(self)
        # The parser of the commands reports the unknown flags of each command.
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                known += [flag for one in action.choices.values() for flag in list_flags(one)]
        near = difflib.get_close_matches(unknown, known, 1)
        hint = f" Did you mean {near[0]}?" if near and unknown.startswith("-") else ""
        # argparse would print its whole usage before the one line that matters.
        raise ConfigError(f"{message[0].upper()}{message[1:]}.{hint} See --help for the flags.")


def list_flags(parser: argparse.ArgumentParser) -> list[str]:
    """Return every flag of a parser, such as `--seed`."""
    return [flag for action in parser._actions for flag in action.option_strings]


def build_train_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of `train.py`, generated from TrainConfig."""
    parser = OneLineParser(
        prog=prog, description="Train, compare and publish a fracture classifier."
    )
    parser.add_argument("--version", action="version", version=f"cspine {cspine.__version__}")
    add_flags(parser)
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and the flags of TrainConfig, in their groups, to `parser`."""
    specs, types = {spec.name: spec for spec in fields(TrainConfig)}, field_types(TrainConfig)
    for title, names in FLAG_GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            flag = "--" + name.replace("_", "-")
            group.add_argument(flag, **_flag_options(specs[name], types[name]))
    parser.add_argument(
        "--config",
        metavar="FILE.toml",
        help="a file with any of these settings and those without a flag; flags override the file",
    )


def _flag_options(spec: Field[Any], kind: Any) -> dict[str, Any]:
    """Return what `add_argument` needs for the flag of one field."""
    shown = f" (default: {spec.default})" if spec.default not in (None, (), False) else ""
    # If the namespace held defaults, nobody could tell which flags were given.
    options = {"default": argparse.SUPPRESS, "help": spec.metadata["help"] + shown}
    if kind is bool:
        return options | {"action": "store_true"}
    if is_list(kind):
        # `--require a=1 --require b=2` and `--require a=1 b=2` mean the same.
        options |= {"nargs": "+", "action": "extend"}
    return options | {"metavar": "|".join(spec.metadata.get("choices", [spec.name.upper()]))}


def read_toml(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file; those in tables are moved to the top level.

    Raises:
        ConfigError: the file is missing or is not TOML.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"`--config` must be a readable file. Received: {path}") from error
    # The bytes are not UTF-8 or not TOML, or a number has thousands of digits.
    except ValueError as error:
        raise ConfigError(f"`--config` must be TOML ({error}). Received: {path}") from error
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat.update(value if isinstance(value, dict) else {name: value})
    return flat


def parse_config(arguments: Sequence[str], prog: str | None = None) -> TrainConfig:
    """Return the settings: flags override the `--config` file, which overrides the defaults.

    Raises:
        ConfigError: a flag, the file or a value in either cannot be used.
    """
    return config_from_namespace(build_train_parser(prog).parse_args(list(arguments)))


def config_from_namespace(given: argparse.Namespace) -> TrainConfig:
    """Return the settings of a namespace that `add_flags` filled; other attributes are ignored.

    Raises:
        ConfigError: see `parse_config`.
    """
    flags = {name: vars(given)[name] for name in field_types(TrainConfig) if name in given}
    settings = read_toml(Path(given.config)) if given.config else {}
    return TrainConfig(**cast_values(TrainConfig, settings | flags))
