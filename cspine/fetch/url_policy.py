"""The rules for URLs and addresses that may be fetched: a strict parser and a list of networks.

A URL that two parsers could read differently is refused, so that the checked URL is the URL that is
fetched. This module sends nothing and resolves no names; `fetcher.py` does.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from cspine.core.errors import UrlNotAllowedError

MAX_URL_CHARACTERS = 8192  # signed URLs of object stores have some thousands
DEFAULT_PORTS = {"http": 80, "https": 443}
# The ports of web servers; another port may belong to another protocol.
PUBLIC_PORTS = frozenset((80, 443, 8080, 8443))

# A URL by RFC 3986, without user info or an empty port.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.IGNORECASE | re.ASCII,
)
# Characters sent unquoted: the reserved ones of RFC 3986 except `#`, and also `|` and `~`.
_KEPT = "/?!$&'()*+,;=:@[]|~"
# Characters that browsers quote in a path or a query (WHATWG URL, "percent-encode sets").
_QUOTED = ' "<>`{}'
# Characters outside ASCII are quoted as UTF-8. A lone surrogate is refused, since UTF-8 cannot
# encode it.
_CHARACTER = (
    rf"[A-Za-z0-9\-._{re.escape(_KEPT + _QUOTED)}]|%[0-9A-Fa-f]{{2}}|[^\x00-\xa0\ud800-\udfff]"
)
_TEXT = re.compile(rf"(?:{_CHARACTER})*")
# `urljoin` would read `http:a`, `http:///a` and `///a` as paths of the redirecting server.
_LOCATION = re.compile(
    rf"(?!https?:(?!//)|(?:https?:)?//(?:[/?#]|$))(?:{_CHARACTER}|#)*", re.IGNORECASE
)
# A label has at most 63 characters (RFC 1035, 2.3.4). Underscores are against that standard, but
# some hosts use them.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER_LIKE = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that some parsers read as IPv4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Ranges that `is_global` accepts in some Python versions, or whose packets are forwarded elsewhere.
_REFUSED_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments, including a cloud's metadata service
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # a cloud's metadata service at a public address
        "64:ff9b::/96",
        "64:ff9b:1::/48",  # NAT64
        "2001::/23",  # Teredo, ORCHID and other special purposes
        "2001:db8::/32",
        "3fff::/20",  # documentation
        "2002::/16",  # 6to4
    )
)
# Cloud metadata services that are not in 169.254.0.0/16 or fe80::/10. Two are in private ranges.
_METADATA_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in ("168.63.129.16/32", "192.0.0.192/32", "100.100.100.200/32", "fd00:ec2::254/128")
)
_GLOBAL_UNICAST_V6 = ipaddress.ip_network("2000::/3")


@dataclass(frozen=True)
class Target:
    """The parts of a URL, exactly as they are checked and used.

    Fields:
        scheme: `http` or `https`.
        host: in lower case; an IPv6 address has no brackets.
        port: 1–65535.
        resource: path and query.
    """

    scheme: str
    host: str
    port: int
    resource: str

    @property
    def origin(self) -> str:
        """Return the URL up to its path, with the port always written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_url(url: str) -> Target:
    """Return the parts of an http or https URL; spaces around it are ignored, as in browsers.

    Raises:
        UrlNotAllowedError: the scheme is not http or https, or the URL could be read in two ways.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise UrlNotAllowedError(
            f"`url` must have at most {MAX_URL_CHARACTERS} characters. Received: {len(url)}"
        )
    text = url.strip(" ")
    match = _URL.fullmatch(text)
    if match is None:
        raise UrlNotAllowedError(f"`url` must {_broken_rule(text)}.")
    resource = (match["path"] or "/") + (f"?{match['query']}" if match["query"] else "")
    if not _TEXT.fullmatch(resource + (match["fragment"] or "")):
        raise UrlNotAllowedError("`url` must have no control character, backslash or stray `%`.")
    scheme = match["scheme"].lower()
    port = int(match["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise UrlNotAllowedError(f"`url` must have a port from 1 to 65535. Received: {port}")
    host = _read_host(match["host"].lower())
    # `%` is not quoted, because `_TEXT` accepts it only in a complete escape.
    return Target(scheme, host, port, quote(resource, safe="%" + _KEPT))


def _broken_rule(url: str) -> str:
    """Return the rule that a URL breaks which does not match `_URL`."""
    if not re.match(r"https?://", url, re.IGNORECASE):
        return "begin with http:// or https://"
    if "@" in url.split("/", 3)[2]:
        return "have no user name or password"
    return (
        "have the form scheme://host[:port]/path, with a host of letters, digits, dots and hyphens"
    )


def _read_host(host: str) -> str:
    """Return the host to connect to: a name, or an address in its canonical spelling."""
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise UrlNotAllowedError("`url` must have a valid IPv6 address.") from None
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlNotAllowedError("`url` must have a host name without empty or invalid parts.")
    if _NUMBER_LIKE.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise UrlNotAllowedError(
                "`url` must write an IPv4 address as four decimal numbers."
            ) from None
    return host


def follow_redirect(source: Target, location: str) -> Target:
    """Return the target of a redirect from `source`, by RFC 3986, 5.2.

    Raises:
        UrlNotAllowedError: `location` must not be followed, or leads from https to http.
    """
    # Checked before `urljoin`, because it removes tabs and line ends from its arguments.
    if not _LOCATION.fullmatch(location):
        raise UrlNotAllowedError(
            "A redirect must lead to a URL or a path with no control character, backslash or stray "
            "`%`."
        )
    try:
        url = urljoin(source.origin + source.resource, location)
    except ValueError:
        raise UrlNotAllowedError("A redirect must lead to a URL with a valid host.") from None
    target = parse_url(url)
    if source.scheme == "https" and target.scheme != "https":
        raise UrlNotAllowedError("A redirect must not lead from https to http.")
    return target


def is_public(address: Address) -> bool:
    """Return whether `address` can be reached from the whole internet."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST_V6:
        return False  # loopback, mapped, link-local, unique-local, multicast, NAT64, …
    if any(address in network for network in _REFUSED_NETWORKS):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def is_link_local(address: Address) -> bool:
    """Return whether `address` is link-local, or the address of a cloud's metadata service."""
    # The system connects to an IPv4-mapped IPv6 address over IPv4.
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_link_local or any(inner in network for network in _METADATA_NETWORKS)


@dataclass(frozen=True)
class AllowList:
    """The `host[:port]` entries that may be fetched although their address is not public."""

    entries: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entries: tuple[str, ...]) -> AllowList:
        """Return the list of these entries, converted to lower case."""
        return cls(frozenset(entry.lower() for entry in entries))

    def names(self, target: Target) -> bool:
        """Return whether the host is listed with its port, or without it if the port is public."""
        host = f"[{target.host}]" if ":" in target.host else target.host
        if f"{host}:{target.port}" in self.entries:
            return True
        # An IPv6 host may be listed with brackets or without.
        return target.port in PUBLIC_PORTS and bool({host, target.host} & self.entries)

    def opens(self, target: Target, address: Address) -> bool:
        """Return whether `address`, to which the target's host resolved, may be connected to.

        A listed name may resolve to a private address, but not to a link-local one or to a cloud's
        metadata service. Such a service hands out the machine's keys, and the owner of the name
        could make the fetcher read them. Such an address is allowed only if it is itself listed.
        """
        if is_public(address):
            return True
        is_literal = str(address) == target.host
        return self.names(target) and (is_literal or not is_link_local(address))

    def check_port(self, target: Target) -> None:
        """Check the target's port.

        Raises:
            UrlNotAllowedError: the port is not in PUBLIC_PORTS, and the target is not listed.
        """
        if target.port not in PUBLIC_PORTS and not self.names(target):
            known = ", ".join(str(port) for port in sorted(PUBLIC_PORTS))
            raise UrlNotAllowedError(
                f"`url` must use port {known}, or be named in CSPINE_FETCH_ALLOW. "
                f"Received: {target.port}"
            )
