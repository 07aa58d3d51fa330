"""API keys: which views demand one, and whether a request has it."""

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
# A view's attribute: its caller must send a key where keys are set.
_DEMANDS_KEY = "demands_api_key"


class Keys:
    """The API keys, compared in constant time; with none, everybody may call."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        # As bytes: of text `compare_digest` takes ASCII alone, and raises for the rest.
        # The environment's bytes that are no UTF-8 come as surrogates.
        self._keys = [key.encode("utf-8", "surrogateescape") for key in keys]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, sent: str) -> int | None:
        """Return the index of the key that was sent, None for no key of ours."""
        found = None
        # All of them, always: no early end to time.
        for index, key in enumerate(self._keys):
            # As it came over the wire: WSGI reads each byte of a header as a character.
            if hmac.compare_digest(key, sent.encode("latin-1", "replace")):
                found = index
        return found


def require_api_key(view: _View) -> _View:
    """Mark a view as one that needs a key where keys are set."""
    setattr(view, _DEMANDS_KEY, True)
    return view


class Authentication:
    """Let requests to marked views through with a valid key alone, each within its rate."""

    def __init__(self, app: Flask, keys: tuple[str, ...], rate_per_key: float | None) -> None:
        self._app = app
        self._keys, self._rate = Keys(keys), Rate(rate_per_key)

    def before_request(self) -> None:
        """Check the key.

        Raises:
            Unauthorized: no key, or none of ours.
            TooManyRequests: the key's rate is used up.
        """
        view = self._app.view_functions.get(request.endpoint or "")
        # A preflight carries no key, by the standard of CORS.
        if self._keys and getattr(view, _DEMANDS_KEY, False) and request.method != "OPTIONS":
            _check_key(self._keys, self._rate)


def charge_images(count: int) -> None:
    """Count a request's images on its key's rate, but the first, which was counted at the gate.

    After they were let in: of a full service's refusal nothing is charged.
    """
    if "charge" in g:
        g.charge(count - 1)


def _check_key(keys: Keys, rate: Rate) -> None:
    """Let the request through, or raise what says why not."""
    # The scheme's case does not matter (RFC 9110, 11.1).
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    caller = keys.find(request.headers.get("X-API-Key") or bearer)
    # The same words for no key and for a wrong one.
    if caller is None:
        raise Unauthorized(
            "The header `Authorization: Bearer <key>` or `X-API-Key` must hold a valid key.",
            # A 401 must name a scheme (RFC 9110, 15.5.2).
            www_authenticate=WWWAuthenticate("bearer"),
        )
    # After the key: an unknown caller must not use up anybody's rate.
    wait_s = rate.take(caller)
    if wait_s > 0:
        # In whole seconds (RFC 9110, 10.2.3), rounded up so as not to come too soon.
        raise TooManyRequests("The key's rate is used up.", retry_after=math.ceil(wait_s))
    g.charge = partial(rate.charge, caller)
