"""Security headers of every answer, and no compressed bodies."""

from __future__ import annotations

from flask import Response, request
from werkzeug.exceptions import UnsupportedMediaType

# Answers are data: should a browser be made to show one, it may load and run nothing.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # An answer about a patient has no place in a proxy.
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Add HEADERS where a view has not set them."""

    def after_request(self, response: Response) -> None:
        """Add the headers."""
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)


class RefuseCompressedBodies:
    """Refuse bodies with a Content-Encoding.

    A body that is inflated may be a bomb, and clients that compress pictures gain nothing.
    """

    def before_request(self) -> None:
        """Look at the header.

        Raises:
            UnsupportedMediaType: the body is compressed.
        """
        if request.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise UnsupportedMediaType(
                "`Content-Encoding` must be absent: bodies are read as sent."
            )
