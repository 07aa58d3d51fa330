"""Security headers for every answer, and the refusal of compressed bodies."""

from __future__ import annotations

from flask import Response, request
from werkzeug.exceptions import UnsupportedMediaType

# Answers are data, so a browser that shows an answer must not load or run anything.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # An answer about a patient must not be kept by a proxy.
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Add each of HEADERS that the view has not set."""

    def after_request(self, response: Response) -> None:
        """Add the headers."""
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)


class RefuseCompressedBodies:
    """Refuse bodies with a Content-Encoding.

    A body may have any size once it is decompressed, and pictures gain nothing from compression.
    """

    def before_request(self) -> None:
        """Check the header.

        Raises:
            UnsupportedMediaType: the body is compressed.
        """
        if request.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise UnsupportedMediaType(
                "`Content-Encoding` must be absent, because the service does not decode bodies."
            )
