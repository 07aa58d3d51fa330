"""The container's HEALTHCHECK: exit code 0 where the service of this machine is ready, else 1.

It asks `/health/ready` on the port of `CSPINE_LISTEN`, as the service's own environment has it.
"""

import http.client
import os
import sys

from cspine.core.errors import CspineError
from cspine.core.serve_settings import read_settings

TIMEOUT_S = 2
# Addresses to listen on, and not to ask.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def main() -> int:
    """Ask once and return the exit code."""
    try:
        host, port = read_settings(os.environ).listen
        # Without urllib, which would ask a proxy of the environment.
        connection = http.client.HTTPConnection(EVERYWHERE.get(host, host), port, TIMEOUT_S)
        connection.request("GET", "/health/ready")
        return int(connection.getresponse().status != 200)
    except (CspineError, OSError, http.client.HTTPException) as error:
        print(f"healthcheck.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
