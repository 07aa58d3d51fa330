"""CORS: the origins of web pages that may read an answer (Fetch standard, 3.2)."""

from __future__ import annotations

from flask import Response, request

# Headers that a page of another origin may send in addition to the few that CORS always allows.
_ALLOWED_HEADERS = (
    "Authorization, Content-Type, Inference-Header-Content-Length, X-API-Key, X-Request-ID"
)


class Cors:
    """Allow pages of the listed origins to read answers."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = origins

    def after_request(self, response: Response) -> None:
        """Add the CORS headers for the caller's origin."""
        origin, is_preflight = request.headers.get("Origin"), request.method == "OPTIONS"
        response.headers.update(cors_headers(self._origins, origin, is_preflight))


def cors_headers(
    origins: tuple[str, ...], origin: str | None, is_preflight: bool = False
) -> dict[str, str]:
    """Return the CORS headers, which allow the caller's origin only if it is listed.

    Args:
        origins: the allowed origins; `*` allows every one. If there are none, no header is
            returned.
        origin: the request's `Origin`.
        is_preflight: whether the request is an OPTIONS request.
    """
    if not origins:
        return {}
    # `Vary` is sent to other origins too, or a cache would serve one origin's answer to another.
    headers = {"Vary": "Origin"}
    if origin is not None and (origin in origins or "*" in origins):
        headers["Access-Control-Allow-Origin"] = origin
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-ID"
        if is_preflight:
            headers["Access-Control-Allow-Methods"] = "GET, POST"
            headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
    return headers
