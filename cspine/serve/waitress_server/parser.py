"""Waitress's request parser, with its gaps closed.

Waitress keeps what is between the chunks of a body whatever its length, searches all of it again at
each read and copies the rest of a read for each chunk or empty line. A client that sends little
else would stop the loop that all connections share.
"""

from __future__ import annotations

from waitress.parser import HTTPRequestParser, ParsingError, get_header_lines
from waitress.utilities import BadRequest

# What may come between the chunks of a body, beside as many bytes as are in them: a chunk of one
# byte takes six.
_FRAMING_BYTES = 4096
_PIECE_BYTES = 4096  # of a chunked body, between two looks at its framing


def _refuse_ambiguous(header_plus: bytes) -> None:
    """Refuse a header whose host or whose body's end a proxy could read in another way.

    Raises:
        ParsingError: there is not one Host (RFC 9112, 3.2), or the body is framed in two ways or by
            a coding that HTTP/1.0 lacks (RFC 9112, 6.1).
    """
    start, _, rest = header_plus.partition(b"\r\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in get_header_lines(rest):
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t").lower())
    codings, hosts = fields.get(b"transfer-encoding", []), fields.get(b"host", [])
    is_1_1 = start.rstrip().endswith(b" HTTP/1.1")
    if codings and (codings != [b"chunked"] or not is_1_1 or b"content-length" in fields):
        raise ParsingError("The body must be framed in one way")
    if len(hosts) > 1 or (is_1_1 and not hosts):
        raise ParsingError("There must be one Host")


class RequestParser(HTTPRequestParser):
    """The parser of one request."""

    # Waitress sets neither where it refuses a header, but reads them later.
    command = path = ""

    def received(self, data: bytes) -> int:
        """Take the next bytes of the request; return how many of them are its own."""
        skipped = 0
        if self.chunked:
            data = data[:_PIECE_BYTES]
        elif self.body_rcv is None and not self.header_plus:
            # Empty lines before a request are to be ignored (RFC 9112, 2.2).
            skipped = len(data) - len(data := data.lstrip(b"\r\n"))
        taken = skipped + int(super().received(data))
        if self.chunked and self.body_bytes_received > 2 * len(self.body_rcv) + _FRAMING_BYTES:
            self.error, self.completed = BadRequest("The body is mostly framing"), True
        return taken

    def parse_header(self, header_plus: bytes) -> None:
        """Read the header.

        Raises:
            ParsingError: it is none, or can be read in two ways.
        """
        _refuse_ambiguous(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError:  # a bracket that is no address, a length of thousands of digits
            raise ParsingError("The header holds no request") from None
