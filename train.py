"""Command that trains, compares and publishes models. `python train.py --help` lists its options.

The exit code is 0 if the training succeeded, 1 if the model missed a value that `--require`
demands, 2 after an error, which is printed as one line, and 130 after Ctrl-C. `cspine/train/`
does the work.
"""

from __future__ import annotations

import logging
import os
import sys

from cspine.core.cli_flags import parse_config
from cspine.core.errors import CspineError


def main(arguments: list[str]) -> int:
    """Run one training; return the exit code."""
    # Only a default: to train on several devices, the user sets `jax`.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # Shows only fatal C++ log lines; the others are about CPU features and missing GPUs.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Overrides the environment, so that the same seed gives the same weights on every machine.
    os.environ["TF_DETERMINISTIC_OPS"] = "1"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # TensorFlow warns if a program builds many networks, as training does for candidates and folds.
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
        # 128 + the number of SIGINT, as shells report it.
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
