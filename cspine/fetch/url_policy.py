"""Which URLs and which addresses may be fetched: one strict parser and one list of networks.

A URL that two parsers could read in two ways is refused, so that what was checked is what is
dialled. Sends nothing and resolves nothing; `fetcher.py` does.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote

from cspine.core.errors import UrlNotAllowedError

MAX_URL_CHARACTERS = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}
# Where web servers answer; another port may be another protocol's.
PUBLIC_PORTS = frozenset((80, 443, 8080, 8443))

# RFC 3986, with no user info, no empty port and nothing that needs quoting but non-ASCII letters.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.IGNORECASE | re.ASCII,
)
# Sent as they stand: RFC 3986's reserved characters but `#`, and `|` and `~`.
_KEPT = "/?!$&'()*+,;=:@[]|~"
# What is not ASCII is quoted as UTF-8, which a lone surrogate cannot be.
_TEXT = re.compile(
    rf"(?:[A-Za-z0-9\-._{re.escape(_KEPT)}]|%[0-9A-Fa-f]{{2}}|[^\x00-\xa0\ud800-\udfff])*"
)
# At most 63 characters (RFC 1035, 2.3.4); underscores are against the rules, and in use.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER_LIKE = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that makes a host an IPv4 to some
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Ranges that `is_global` lets through in some Python version, or that lead elsewhere than they say.
_REFUSED_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments, one of them a cloud's metadata service
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
# Beside 169.254.0.0/16 and fe80::/10; two lie in ranges that people use inside.
_METADATA_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in ("168.63.129.16/32", "192.0.0.192/32", "100.100.100.200/32", "fd00:ec2::254/128")
)
_GLOBAL_UNICAST_V6 = ipaddress.ip_network("2000::/3")


@dataclass(frozen=True)
class Target:
    """A URL taken apart: exactly what is checked, resolved, dialled and sent.

    `host` is lower-case, an IPv6 address without brackets; `resource` is path and query.
    """

    scheme: str
    host: str
    port: int
    resource: str

    @property
    def origin(self) -> str:
        """The URL up to its path, with the port always written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_url(url: str) -> Target:
    """Return the parts of an http or https URL.

    Raises:
        UrlNotAllowedError: another scheme, or a URL that is not plainly one thing.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise UrlNotAllowedError(
            f"`url` must have at most {MAX_URL_CHARACTERS} characters. Received: {len(url)}"
        )
    match = _URL.fullmatch(url)
    if match is None:
        raise UrlNotAllowedError(f"`url` must be {_broken_rule(url)}.")
    resource = (match["path"] or "/") + (f"?{match['query']}" if match["query"] else "")
    if not _TEXT.fullmatch(resource + (match["fragment"] or "")):
        raise UrlNotAllowedError("`url` must have no space, control character or stray `%`.")
    scheme = match["scheme"].lower()
    port = int(match["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise UrlNotAllowedError(f"`url` must have a port from 1 to 65535. Received: {port}")
    host = _read_host(match["host"].lower())
    # `%` stays: only whole escapes came this far.
    return Target(scheme, host, port, quote(resource, safe="%" + _KEPT))


def _broken_rule(url: str) -> str:
    """Say what a URL must be that the pattern does not let through."""
    if not re.match(r"https?://", url, re.IGNORECASE):
        return "http:// or https://"
    if "@" in url.split("/", 3)[2]:
        return "without a user name or password"
    return "plain: scheme://host[:port]/path, the host in letters, digits, dots and hyphens"


def _read_host(host: str) -> str:
    """Return the host as it is dialled: a name, or an address in its canonical spelling."""
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise UrlNotAllowedError("`url` must have a valid IPv6 address.") from None
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlNotAllowedError("`url` must have a host name with no empty or odd part.")
    if _NUMBER_LIKE.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise UrlNotAllowedError("`url` must spell IPv4 as four decimal numbers.") from None
    return host


def follow_redirect(source: Target, location: str) -> Target:
    """Return where a redirect from `source` leads.

    Raises:
        UrlNotAllowedError: `location` is no URL that may be followed, or leaves https.
    """
    # As RFC 3986, 5.2, resolves it; of a whole URL the server may take out the dots itself.
    if _ABSOLUTE.match(location):
        url = location
    elif location.startswith("//"):
        url = f"{source.scheme}:{location}"
    elif location.startswith("/"):
        url = source.origin + _remove_dots(location)
    elif location.startswith(("?", "#")):
        url = source.origin + source.resource.partition("?")[0] + location
    else:
        folder = source.resource.partition("?")[0].rpartition("/")[0]
        url = source.origin + _remove_dots(f"{folder}/{location}")
    target = parse_url(url)
    if source.scheme == "https" and target.scheme != "https":
        raise UrlNotAllowedError("A redirect must not lead from https to http.")
    return target


def _remove_dots(resource: str) -> str:
    """Return path, query and fragment with `.` and `..` taken out of the path (RFC 3986, 5.2.4)."""
    path = re.split(r"[?#]", resource, maxsplit=1)[0]
    kept: list[str] = []
    *folders, last = path.split("/")
    for part in folders:
        # The first is empty, before the root, above which nothing leads.
        if part == "..":
            kept = kept[: max(1, len(kept) - 1)]
        elif part != ".":
            kept.append(part)
    if last == "..":
        kept, last = kept[: max(1, len(kept) - 1)], ""
    return "/".join([*kept, "" if last == "." else last]) + resource[len(path) :]


def is_public(address: Address) -> bool:
    """Return whether `address` is one that anybody on the internet could reach."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST_V6:
        return False  # loopback, mapped, link-local, unique-local, multicast, NAT64, …
    if any(address in network for network in _REFUSED_NETWORKS):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def is_link_local(address: Address) -> bool:
    """Return whether `address` is of this link alone, or one where a cloud keeps its metadata."""
    # Mapped to IPv6 it is dialled as IPv4.
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner.is_link_local or any(inner in network for network in _METADATA_NETWORKS)


@dataclass(frozen=True)
class AllowList:
    """The `host[:port]` entries that may be fetched although their address is not public."""

    entries: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entries: tuple[str, ...]) -> AllowList:
        """Return the list of these entries, in lower case."""
        return cls(frozenset(entry.lower() for entry in entries))

    def names(self, target: Target) -> bool:
        """Return whether the target's host is listed: with its port, or alone on a public port."""
        host = f"[{target.host}]" if ":" in target.host else target.host
        if f"{host}:{target.port}" in self.entries:
            return True
        # An IPv6 host may be listed with its brackets or without.
        return target.port in PUBLIC_PORTS and bool({host, target.host} & self.entries)

    def opens(self, target: Target, address: Address) -> bool:
        """Return whether `address`, to which the target's host resolved, may be dialled.

        A listed name may lead inside, but not to a cloud's metadata service, which gives away the
        machine's own keys: whoever answers for the name would have them. Its address may be
        listed.
        """
        if is_public(address):
            return True
        is_literal = str(address) == target.host
        return self.names(target) and (is_literal or not is_link_local(address))

    def check_port(self, target: Target) -> None:
        """Raise `UrlNotAllowedError` where neither the list nor custom opens the target's port."""
        if target.port not in PUBLIC_PORTS and not self.names(target):
            known = ", ".join(str(port) for port in sorted(PUBLIC_PORTS))
            raise UrlNotAllowedError(
                f"`url` must use port {known}, or be named in CSPINE_FETCH_ALLOW. "
                f"Received: {target.port}"
            )
