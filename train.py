"""Train, compare and publish a model: `python train.py --help` says how.

Sets what must stand before Keras is imported, parses, calls, and turns errors into one line and
exit code 2. Exit code 1 means that a bar of `--require` was missed.
"""

from __future__ import annotations

import logging
import os
import sys

from cspine.core.cli_flags import parse_config
from cspine.core.errors import CspineError


def main(arguments: list[str]) -> int:
    """Run one training; return the exit code."""
    # A default: for several devices the environment says `jax`.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # Show only fatal C++ log lines; the others are about CPU features and missing GPUs.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # No default: the same seed gives the same weights, whoever starts it.
    os.environ["TF_DETERMINISTIC_OPS"] = "1"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # Each candidate and fold is a network of its own, which TensorFlow takes for a mistake.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        config = parse_config(arguments, prog="train.py")
        from cspine.train.cli import train  # imports Keras, which must find the settings above

        return train(config)
    except CspineError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        # 128 + SIGINT, as shells say it.
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
