"""Waitress's request parser, with bounds on what its own leaves open.

Waitress copies what is left of a read for each empty line, chunk and request, and keeps a chunk's
size line and the trailer whatever their length: some hundred kilobytes of either stop the loop that
all connections share for seconds. Knows no connection; `connection.py` feeds it.
"""

from __future__ import annotations

from waitress.parser import HTTPRequestParser, ParsingError, get_header_lines
from waitress.receiver import ChunkedReceiver, FixedStreamReceiver
from waitress.utilities import BadRequest

PIECE_BYTES = 4096  # copies are of this at most, where there may be many
_MAX_LINE_BYTES = 4096  # a chunk's size line with its extensions, or the trailer
_FREE_BYTES = 64 * 1024  # of framing, before it is held against the content


class BoundedChunks(ChunkedReceiver):
    """A chunked body whose lines are short and whose framing is not most of it."""

    _wire_bytes = 0

    def received(self, data: bytes) -> int:
        """Take the next bytes of the body; return how many of them are its own."""
        taken = int(super().received(data))
        self._wire_bytes += taken
        line_bytes = max(len(self.control_line), len(self.trailer))
        # A chunk of one byte takes six on the wire: framing may be half of a body, no more.
        if line_bytes > _MAX_LINE_BYTES or self._wire_bytes > 2 * len(self) + _FREE_BYTES:
            self.error = BadRequest("Chunks too small or their lines too long")
        return taken


def _refuse_ambiguous(header_plus: bytes) -> None:
    """Refuse a header whose body's end or whose host a proxy could read in another way.

    Raises:
        ParsingError: it has two hosts or, in HTTP/1.1, none, or frames its body in two ways.
    """
    start, _, rest = header_plus.partition(b"\r\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in get_header_lines(rest):
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t").lower())
    codings, hosts = fields.get(b"transfer-encoding", []), fields.get(b"host", [])
    # Both, or a coding that an older version does not know: RFC 9112, 6.1, lets a server refuse it.
    is_1_1 = start.rstrip().endswith(b" HTTP/1.1")
    is_framed_once = codings == [b"chunked"] and is_1_1 and b"content-length" not in fields
    if codings and not is_framed_once:
        raise ParsingError("The body must be framed in one way")
    if len(hosts) > 1 or (is_1_1 and not hosts):
        raise ParsingError("There must be one Host")


class BoundedParser(HTTPRequestParser):
    """A request under the bounds of this module."""

    body_rcv: ChunkedReceiver | FixedStreamReceiver | None
    # Waitress names it where a client leaves before its answer, and a refused header sets none.
    path = ""

    def received(self, data: bytes) -> int:
        """Take the next bytes of the request; return how many of them are its own."""
        if self.body_rcv is not None or self.header_plus:
            return int(super().received(data))
        # Empty lines before a request are to be ignored (RFC 9112, 2.2), all of them in one go.
        kept = data.lstrip(b"\r\n")
        return len(data) - len(kept) + (int(super().received(kept)) if kept else 0)

    def parse_header(self, header_plus: bytes) -> None:
        """Read the header; where a chunked body follows, receive it under bounds."""
        _refuse_ambiguous(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError:  # a bracket that is no address, a length of thousands of digits
            raise ParsingError("The header holds no request") from None
        body: object = self.body_rcv
        if isinstance(body, ChunkedReceiver):
            self.body_rcv = BoundedChunks(body.getbuf())

    def takes_whole(self, count: int) -> bool:
        """Return whether the next `count` bytes all lie within a body of known length."""
        body = self.body_rcv
        return isinstance(body, FixedStreamReceiver) and body.remain >= count


class DroppingParser(BoundedParser):
    """What comes behind the last request that a connection may send: dropped, and never whole."""

    def received(self, data: bytes) -> int:
        """Take all bytes and keep none."""
        return len(data)
