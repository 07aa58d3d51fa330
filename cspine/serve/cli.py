"""`python -m cspine serve`: what `python predict_flask.py` does, by another name."""

from __future__ import annotations

import argparse
import runpy
from typing import Any


def register(subparsers: Any) -> None:
    """Add the command `serve`."""
    parser = subparsers.add_parser(
        "serve", help="serve the model in CSPINE_MODEL_DIR over HTTP; settings are CSPINE_* alone"
    )
    parser.set_defaults(run=run_serve)


def run_serve(_: argparse.Namespace) -> int:
    """Serve until told to stop."""
    # As `__main__`: imported it would load the model, and listen nowhere.
    runpy.run_module("predict_flask", run_name="__main__")
    return 0
