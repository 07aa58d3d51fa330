"""The WSGI entry: `app`, for `waitress-serve predict_flask:app` or any WSGI server.

Run directly it serves with Waitress under the project's own limits, on `CSPINE_LISTEN` (by default
0.0.0.0:9696), and SIGTERM ends it without dropping what was accepted. All settings are `CSPINE_*`
variables. `cspine/serve/cli.py` holds the work. Not a medical device.
"""

from __future__ import annotations

import logging
import os
import sys
import time

# Before the heavy imports, which are part of what a start takes.
STARTED_S = time.monotonic()
# Before Keras is imported, which reads it once.
os.environ.setdefault("KERAS_BACKEND", "openvino")
os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")

from cspine.core.errors import CspineError
from cspine.serve.cli import build_app, open_settings, serve

# At import, since a WSGI server looks for `app` here; SystemExit is one line, no traceback.
try:
    if __name__ == "__main__":
        serve(os.environ, logging.basicConfig, STARTED_S)
    else:
        app = build_app(open_settings(os.environ, logging.basicConfig))
except CspineError as error:
    print(f"predict_flask.py: {error}", file=sys.stderr)
    sys.exit(2)
