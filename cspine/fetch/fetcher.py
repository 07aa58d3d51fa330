"""Fetch an image from an untrusted URL without reaching the host's own network.

`url_policy.py` decides which addresses may be connected to. Here the host name is resolved once,
every address must be public, and urllib3 connects to one of the checked addresses, with the URL's
host in `Host`, in SNI and in the check of the certificate. One deadline covers the complete fetch:
when it passes, the connection is shut down, so that a slow sender cannot extend it. Error texts
hold neither fetched content nor addresses.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing
from http.client import HTTPException, IncompleteRead
from http.client import HTTPResponse as PlainResponse
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from cspine.core.deadline import Deadline
from cspine.core.errors import (
    FetchError,
    FetchTimeoutError,
    ImageTooLargeError,
    UrlNotAllowedError,
)
from cspine.fetch.url_policy import AllowList, Target, follow_redirect, parse_url
from cspine.fetch.watchdog import guard, remaining_s

MAX_REDIRECTS = 3
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CHUNK_BYTES = 64 * 1024
_HEADERS = {
    "Accept": "image/png, image/jpeg, application/dicom",
    # If a server compresses the body anyway, `_read` decodes it and counts the decoded bytes.
    "Accept-Encoding": "identity",
    "User-Agent": "cspine",
    "Connection": "close",
}
_MAX_ADDRESSES = 3  # addresses of one host name that are tried, one after the other
# Time limit per address, so that one that does not answer does not use up the deadline.
_CONNECT_S = 1.5
# Names resolved at once. `getaddrinfo` cannot be interrupted and may take half a minute: with few
# threads, a few slow names would block all fetches for that time.
_RESOLVERS = 256

Resolve = Callable[[str, int], list[str]]


def resolve_name(host: str, port: int) -> list[str]:
    """Return every address of `host`, as the system resolves it.

    Raises:
        OSError: the name cannot be resolved.
    """
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class Fetcher:
    """Fetches URLs under one policy; safe to use from many threads at once.

    Args:
        enabled: False refuses every URL.
        allow: `host[:port]` entries that may be fetched although their address is not public.
        timeout_s: seconds for one complete fetch.
        max_bytes: greatest number of bytes of the decoded body.
        resolve: returns the addresses of a host and port; tests pass their own.
        tls: the context that verifies certificates; by default the system's.
    """

    def __init__(
        self,
        enabled: bool = True,
        allow: tuple[str, ...] = (),
        timeout_s: float = 5.0,
        max_bytes: int = 32 * 1024 * 1024,
        resolve: Resolve = resolve_name,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._enabled = enabled
        self._allow = AllowList.of(allow)
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._resolve = resolve
        self._tls = tls
        self._tls_lock = threading.Lock()
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolve")

    def fetch(self, url: str, timeout_s: float | None = None) -> bytes:
        """Return the body of `url`, within `timeout_s` if that is less than the fetcher's own.

        Raises:
            UrlNotAllowedError: the URL, or a URL that it redirects to, must not be fetched.
            FetchTimeoutError: the deadline passed.
            ImageTooLargeError: the body has more than `max_bytes`.
            FetchError: the host name cannot be resolved, or the server does not send a body.
        """
        if not self._enabled:
            raise UrlNotAllowedError(
                "Fetching URLs is switched off (CSPINE_FETCH=off). Upload the image instead."
            )
        deadline = Deadline.of(min(self._timeout_s, timeout_s or self._timeout_s))
        target = parse_url(url)
        # Every redirect is parsed, resolved and checked like the first URL.
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._visit(target, deadline)
            if isinstance(answer, bytes):
                return answer
            target = follow_redirect(target, answer)
        raise FetchError(f"The URL must redirect at most {MAX_REDIRECTS} times.")

    def _visit(self, target: Target, deadline: Deadline) -> bytes | str:
        """Request one URL; return its body, or the Location of a redirect as text."""
        self._allow.check_port(target)
        addresses = self._checked_addresses(target, deadline)
        # The guard is needed because a socket's own time-out starts again with each byte.
        with closing(_connect(addresses, target.port, deadline)) as link, guard(link, deadline):
            connection = self._wrap(link, target, deadline)
            try:
                answer = self._ask(connection, target)
                remaining_s(deadline)  # a connection that was shut down looks like the body's end
                return answer
            except (FetchError, HTTPError, HTTPException, OSError, ValueError) as error:
                remaining_s(deadline)  # the guard may have shut the connection down
                raise _as_fetch_error(error) from None
            finally:
                connection.close()

    def _checked_addresses(self, target: Target, deadline: Deadline) -> list[str]:
        """Resolve the host once; return its addresses, which must all be public or listed."""
        try:
            lookup = self._resolvers.submit(self._resolve, target.host, target.port)
            answers = lookup.result(remaining_s(deadline))
            addresses = [ipaddress.ip_address(answer) for answer in answers]
        except FutureTimeoutError:
            lookup.cancel()  # or abandoned names would queue up behind slow ones
            raise FetchTimeoutError("The URL's host name did not resolve in time.") from None
        except (OSError, ValueError):
            addresses = []
        if not addresses:
            raise FetchError("The URL's host name must resolve.")
        if not all(self._allow.opens(target, address) for address in addresses):
            raise UrlNotAllowedError(
                "`url` must lead to a public address, or be named in CSPINE_FETCH_ALLOW."
            )
        return [str(address) for address in addresses]

    def _wrap(self, link: socket.socket, target: Target, deadline: Deadline) -> _PinnedHTTP:
        """Return a urllib3 connection that uses the connected socket; nothing is sent yet."""
        left_s = remaining_s(deadline)
        if target.scheme == "http":
            return _PinnedHTTP(link, target, timeout=left_s)
        return _PinnedHTTPS(link, target, timeout=left_s, ssl_context=self._trust())

    def _trust(self) -> ssl.SSLContext:
        """Return the TLS context; it is made on first use, since reading certificates is slow."""
        with self._tls_lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls

    def _ask(self, connection: _PinnedHTTP, target: Target) -> bytes | str:
        connection.request("GET", target.resource, headers=_HEADERS, preload_content=False)
        response = connection.getresponse()
        try:
            if response.status in _REDIRECTS and "Location" in response.headers:
                return _as_text(response.headers["Location"])
            if response.status != 200:
                raise FetchError(
                    f"The server must answer with status 200. Received: {response.status}"
                )
            body = self._read(response)
            if not body:
                raise FetchError("The server must answer with an image. Received: 0 bytes")
            return body
        finally:
            response.close()

    def _read(self, response: HTTPResponse) -> bytes:
        """Return the decoded body; count its bytes while decoding, whatever the server states."""
        body = bytearray()
        for chunk in response.stream(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > self._max_bytes:
                raise ImageTooLargeError(
                    f"The fetched image must have at most {self._max_bytes} bytes. Received: more"
                )
        return bytes(body)


def _connect(addresses: list[str], port: int, deadline: Deadline) -> socket.socket:
    """Return a connection to the first of the checked addresses that answers."""
    for address in addresses[:_MAX_ADDRESSES]:
        timeout_s = min(_CONNECT_S, remaining_s(deadline))
        try:
            link = socket.create_connection((address, port), timeout=timeout_s)
        except OSError:
            continue
        # urllib3 sets this option only for the connections that it makes itself.
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link
    remaining_s(deadline)
    raise FetchError("The URL's server could not be reached.")


def _as_text(header: str) -> str:
    """Return a header, which http.client decodes as Latin-1, decoded as UTF-8 if possible."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _as_fetch_error(error: Exception) -> FetchError:
    """Return a FetchError whose text holds no fetched content."""
    if isinstance(error, FetchError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return FetchError("The server's TLS certificate must be valid for the URL's host.")
    return FetchError("The server did not send a complete image.")


class _BoundedResponse(PlainResponse):
    """A response that refuses a negative chunk size, which would be read until the end."""

    def _safe_read(self, amt: int) -> bytes:
        if amt < 0:
            raise IncompleteRead(b"")
        return super()._safe_read(amt)  # type: ignore[misc,no-any-return]


class _PinnedHTTP(HTTPConnection):
    """An HTTP connection over a socket that is already connected to a checked address."""

    response_class = _BoundedResponse

    def __init__(self, link: socket.socket, target: Target, **options: Any) -> None:
        super().__init__(target.host, target.port, **options)
        self._link = link

    def _new_conn(self) -> socket.socket:
        return self._link


class _PinnedHTTPS(_PinnedHTTP, HTTPSConnection):
    """A `_PinnedHTTP` over TLS: SNI and the certificate's name are the URL's host."""
