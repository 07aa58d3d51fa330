"""The prediction service: a command that serves, and `app` for any WSGI server.

`python predict_flask.py` serves with Waitress under the project's own limits, on `CSPINE_LISTEN`
(by default 127.0.0.1:9696). After SIGTERM it first answers all accepted requests, then ends.
Another WSGI server imports `app`, for example `waitress-serve predict_flask:app`. All settings are
`CSPINE_*` environment variables, which `--help` lists. `cspine/serve/cli.py` does the work. Not a
medical device.
"""

from __future__ import annotations

import logging
import os
import sys
import time

# Taken before the heavy imports, because they are part of the start-up time.
STARTED_S = time.monotonic()
# Set before Keras is imported, because Keras reads its backend only once.
os.environ.setdefault("KERAS_BACKEND", "openvino")
os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")

from cspine.core.errors import CspineError
from cspine.serve.cli import build_app, open_settings, read_flags, serve

# `app` is built at import, because a WSGI server looks for it in this module. An error ends the
# process with one line instead of a traceback.
try:
    if __name__ == "__main__":
        serve(read_flags(sys.argv[1:], os.environ), logging.basicConfig, STARTED_S)
    else:
        app = build_app(open_settings(os.environ, logging.basicConfig))
except CspineError as error:
    print(f"predict_flask.py: {error}", file=sys.stderr)
    sys.exit(2)
