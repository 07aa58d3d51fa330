"""The container's HEALTHCHECK: exit code 0 if the service in this container is ready, else 1.

It requests `/health/ready` from the address in `CSPINE_LISTEN`. Because it runs every few seconds
beside the service, it imports only the standard library.
"""

import http.client
import os
import sys

LISTEN = "127.0.0.1:9696"  # the default of `CSPINE_LISTEN`
TIMEOUT_S = 2
# A service that listens on all addresses is asked at the loopback address.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def main() -> int:
    """Send one request and return the exit code."""
    try:
        host, _, port = (os.environ.get("CSPINE_LISTEN") or LISTEN).rpartition(":")
        host = host.strip("[]")
        # Not urllib, which would use a proxy if the environment names one.
        connection = http.client.HTTPConnection(EVERYWHERE.get(host, host), int(port), TIMEOUT_S)
        connection.request("GET", "/health/ready")
        return int(connection.getresponse().status != 200)
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        print(f"healthcheck.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
