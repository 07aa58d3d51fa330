"""`python -m cspine COMMAND`: every room that has a command registers it itself, in its `cli.py`.

An entry point: sets the Keras backend and logging, reads the arguments, turns an error that is the
user's to mend into one line and exit code 2. Knows no command.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec

import cspine
from cspine.core.errors import CspineError
from cspine.core.labels import MEDICAL_NOTICE

TRAINING = ("train", "demo")  # the commands that train, on TensorFlow; the others never need it


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands that the rooms register."""
    parser = argparse.ArgumentParser(prog="python -m cspine", description=MEDICAL_NOTICE)
    parser.add_argument("--version", action="version", version=cspine.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for room in pkgutil.iter_modules(cspine.__path__):
        name = f"cspine.{room.name}.cli"
        if room.ispkg and find_spec(name):
            importlib.import_module(name).register(commands)
    return parser


def set_environment(command: str) -> None:
    """Choose the Keras backend, before anything imports Keras, and make TensorFlow repeatable."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if command in TRAINING else "openvino")
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code: 2 for an error that is the user's to mend."""
    given = build_parser().parse_args(arguments)
    set_environment(given.command)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given.environment = os.environ
    try:
        return int(given.run(given))
    except CspineError as error:
        print(f"cspine {given.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
