"""The container's HEALTHCHECK: exit code 0 if the service of this machine is ready, else 1.

It asks `/health/ready` on the port of `CSPINE_LISTEN`. It runs every few seconds beside the
service, so it imports the standard library alone.
"""

import http.client
import os
import sys

LISTEN = "0.0.0.0:9696"  # the default of `CSPINE_LISTEN`
TIMEOUT_S = 2
# Addresses to listen on, and where to ask instead.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def main() -> int:
    """Ask once and return the exit code."""
    try:
        host, _, port = (os.environ.get("CSPINE_LISTEN") or LISTEN).rpartition(":")
        host = host.strip("[]")
        # Without urllib, which would ask a proxy of the environment.
        connection = http.client.HTTPConnection(EVERYWHERE.get(host, host), int(port), TIMEOUT_S)
        connection.request("GET", "/health/ready")
        return int(connection.getresponse().status != 200)
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        print(f"healthcheck.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
