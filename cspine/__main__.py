"""Entry point of `cspine COMMAND` and `python -m cspine COMMAND`.

It imports only the package of the given command. It sets the Keras backend and logging, reads the
arguments, and turns an error that the user can correct into one line and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cspine
from cspine.core.cli_flags import OneLineParser
from cspine.core.errors import CspineError
from cspine.core.labels import MEDICAL_NOTICE

if TYPE_CHECKING:
    from cspine.evaluate.external_validation import Predict

# Command → the package whose `cli.py` registers it, and its line in `--help`.
COMMANDS = {
    "audit": ("data", "find copies, leaks, label conflicts and shortcuts in a data set"),
    "evaluate": ("evaluate", "measure a model on your own labelled images, without retraining"),
    "report": ("evaluate", "rebuild a model's report page"),
    "sign": ("model", "sign a model's card with an Ed25519 key"),
    "phantom": ("phantom", "write a set of synthetic CT slices"),
    "predict": ("predict", "classify image files, folders of slices and whole DICOM series"),
    "serve": (
        "serve",
        "serve the model in CSPINE_MODEL_DIR over HTTP; all settings are CSPINE_* variables",
    ),
    "train": ("train", "train, compare and publish a classifier"),
}
TRAINING = ("train",)  # the commands that need TensorFlow


def build_parser(command: str = "", prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of `command`; for an unknown name, one that can only show `--help`."""
    parser = OneLineParser(prog=prog, description=MEDICAL_NOTICE)
    parser.add_argument("--version", action="version", version=f"cspine {cspine.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    if command in COMMANDS:
        # Only this package is imported, because importing all of them takes seconds.
        package = COMMANDS[command][0]
        given = (load_predict,) if package == "evaluate" else ()
        importlib.import_module(f"cspine.{package}.cli").register(commands, *given)
    else:
        for name, (_, text) in COMMANDS.items():
            commands.add_parser(name, help=text)
    return parser


def load_predict(models: Path, precision: str) -> Predict:
    """Return the `predict` function of the model in `models`.

    It is passed to `evaluate`, because that package must not import `cspine.predict`.
    """
    from cspine.predict.predictor import Predictor  # loads the engine, which few commands need

    # Every image is scored, even if the service would name no class for it.
    return Predictor.load(models, precision, answer_synthetic=True).predict


def set_environment(command: str) -> None:
    """Choose the Keras backend before Keras is imported, and make TensorFlow deterministic."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if command in TRAINING else "openvino")
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(arguments: Sequence[str], prog: str = "python -m cspine") -> int:
    """Run one command and return the exit code: 2 for an error that the user can correct."""
    command = arguments[0] if arguments else ""
    set_environment(command)
    # Only an entry point may read the environment or set up logging, so a command that needs either
    # gets it here.
    given = argparse.Namespace(
        command="",
        environment=os.environ,
        configure_logging=logging.basicConfig,
        started_s=time.monotonic(),
    )
    try:
        build_parser(command, prog).parse_args(arguments, given)
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        # File names that the terminal cannot show are escaped; stderr does so by default.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        code = int(given.run(given))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of the pipe has ended (`… | head`), so the rest of the buffer is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except CspineError as error:
        print(f"{f'cspine {given.command}'.strip()}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def run() -> None:
    """Run the command `cspine` of the installed package."""
    sys.exit(main(sys.argv[1:], prog="cspine"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
