"""The command line of a training run, generated from TrainConfig, and the file behind `--config`.

Fields in a flag group become flags; every other number is set in the TOML file. Entry points hand
in the arguments: nothing here reads `sys.argv`.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

import cspine
from cspine.core.errors import ConfigError
from cspine.core.train_config import TrainConfig, make_config


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors: one line, no usage dump."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with argparse's own words."""
        # argparse would print its whole usage before the one line that matters.
        raise ConfigError(f"{message[0].upper()}{message[1:]}. See --help for the flags.")


def build_train_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `train.py`, generated from TrainConfig."""
    parser = OneLineParser(
        prog=prog, description="Train, compare and publish a fracture classifier."
    )
    parser.add_argument("--version", action="version", version=f"cspine {cspine.__version__}")
    add_flags(parser)
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag of TrainConfig, in its groups, and `--config`, to `parser`."""
    groups: dict[str, Any] = {}
    for spec in fields(TrainConfig):
        name = spec.metadata["group"]
        if name:
            groups.setdefault(name, parser.add_argument_group(name)) if name not in groups else None
            _add_flag(groups[name], spec)
    parser.add_argument(
        "--config",
        metavar="FILE.toml",
        help="a file that sets any of the above and every other number; flags go before it",
    )


def _add_flag(group: Any, spec: Field[Any]) -> None:
    """Add one field's flag; absent flags stay out of the namespace, so that the file can speak."""
    rules = spec.metadata
    # SUPPRESS: a default in the namespace could not be told from a flag that was given.
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "dest": spec.name}
    shown = spec.default if spec.default not in (None, (), False) else None
    options["help"] = rules["help"] + (f" (default: {shown})" if shown is not None else "")
    flag = "--" + spec.name.replace("_", "-")
    # Text already, under postponed annotations, and so looked at as text.
    kind = str(spec.type)
    if kind == "bool":
        group.add_argument(flag, action="store_true", **options)
        return
    if "tuple" in kind:
        options["nargs"] = "+"
        # `--require a=1 --require b=2` and `--require a=1 b=2` mean the same.
        options["action"] = "extend"
    if "choices" in rules:
        options["metavar"] = "|".join(rules["choices"])
    else:
        options["metavar"] = spec.name.upper()
    group.add_argument(flag, **options)


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, tables flattened (their names only group).

    Raises:
        ConfigError: the file is missing or is no TOML.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"`--config` must be a readable file. Received: {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"`--config` must be TOML ({error}). Received: {path}") from error
    flat: dict[str, Any] = {}
    for name, value in content.items():
        # Tables only group for the reader; a name means the same in any of them.
        flat.update(value if isinstance(value, dict) else {name: value})
    return flat


def parse_config(arguments: Sequence[str], prog: str | None = None) -> TrainConfig:
    """TrainConfig from command-line arguments; flags go before the file, the file before defaults.

    Raises:
        ConfigError: a flag, the file or a value in either cannot be used.
    """
    return config_from_namespace(build_train_parser(prog).parse_args(list(arguments)))


def config_from_namespace(given: argparse.Namespace) -> TrainConfig:
    """TrainConfig from a namespace that `add_flags` filled; other attributes are left alone.

    Raises:
        ConfigError: as `parse_config`.
    """
    names = {spec.name for spec in fields(TrainConfig)}
    flags = {name: value for name, value in vars(given).items() if name in names}
    settings = read_toml(Path(given.config)) if given.config else {}
    return make_config({**settings, **flags})
