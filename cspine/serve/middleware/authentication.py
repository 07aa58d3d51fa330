"""API keys: a mark for views that require a key, and the check of a request's key and rate."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from flask import Flask, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized

from cspine.serve.middleware.rate_limit import Rate

_View = TypeVar("_View", bound=Callable[..., Any])
# This attribute marks views whose callers must send a key if keys are set.
_DEMANDS_KEY = "demands_api_key"


class Keys:
    """The API keys, compared in constant time. If there are none, all requests are allowed."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        # Keys are kept as bytes, because `compare_digest` accepts text only if it is ASCII. In text
        # from the environment, Python represents bytes that are not UTF-8 by surrogates.
        self._keys = [key.encode("utf-8", "surrogateescape") for key in keys]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, sent: str) -> int | None:
        """Return the index of the key that was sent; None if it is not in the list."""
        found = None
        # All keys are compared, so that the time taken reveals nothing.
        for index, key in enumerate(self._keys):
            # WSGI decodes headers as Latin-1, so encoding them again gives the bytes as sent.
            if hmac.compare_digest(key, sent.encode("latin-1", "replace")):
                found = index
        return found


def require_api_key(view: _View) -> _View:
    """Mark a view as one that requires a key if keys are set."""
    setattr(view, _DEMANDS_KEY, True)
    return view


class Authentication:
    """Require a valid key, within its rate, for requests to marked views.

    Args:
        app: the application, used to find the view of a request.
        keys: the valid keys; if there are none, all requests are allowed.
        rate_per_key: the most images per second for each key; None for no limit.
    """

    def __init__(self, app: Flask, keys: tuple[str, ...], rate_per_key: float | None) -> None:
        self._app = app
        self._keys, self._rate = Keys(keys), Rate(rate_per_key)

    def before_request(self) -> None:
        """Check the key and its rate.

        Raises:
            Unauthorized: the request has no valid key.
            TooManyRequests: the key's rate is used up.
        """
        view = self._app.view_functions.get(request.endpoint or "")
        # A CORS preflight carries no key (Fetch standard).
        if not self._keys or not getattr(view, _DEMANDS_KEY, False) or request.method == "OPTIONS":
            return
        # The scheme's case does not matter (RFC 9110, 11.1).
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        caller = self._keys.find(request.headers.get("X-API-Key") or bearer)
        # A missing key and a wrong key get the same answer.
        if caller is None:
            raise Unauthorized(
                "The header `Authorization: Bearer <key>` or `X-API-Key` must hold a valid key.",
                # A 401 must name a scheme (RFC 9110, 15.5.2).
                www_authenticate=WWWAuthenticate("bearer"),
            )
        # The rate is charged after the key is checked, because an unknown caller must not use up a
        # key's rate.
        wait_s = self._rate.take(caller)
        if wait_s > 0:
            # `Retry-After` is in whole seconds (RFC 9110, 10.2.3). It is rounded up, so that the
            # next attempt succeeds.
            raise TooManyRequests(
                "The key's rate limit is used up. Try again later.", retry_after=math.ceil(wait_s)
            )
        g.charge = partial(self._rate.charge, caller)


def charge_images(count: int) -> None:
    """Charge all images of a request except the first to the rate of its key.

    `Authentication` has charged the first image already. Views call this function after the images
    were admitted, so that a refusal by a full service costs no more than one image.
    """
    if "charge" in g:
        g.charge(count - 1)
