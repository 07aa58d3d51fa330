"""A request parser based on Waitress's own, with limits against slow or ambiguous requests.

Waitress keeps the framing between the chunks of a body, however long it is, and searches all of it
again at each read. For each chunk or empty line, Waitress copies the rest of a read. A client that
sends little except framing or empty lines would stop the loop that all connections share.
"""

from __future__ import annotations

from waitress.parser import HTTPRequestParser, ParsingError, get_header_lines
from waitress.utilities import BadRequest

# The bytes between the chunks of a body may be as many as the bytes in the chunks, plus this
# allowance. A chunk of one byte takes six bytes.
_FRAMING_BYTES = 4096
_PIECE_BYTES = 4096  # read from a chunked body between two checks of its framing


def _refuse_ambiguous(header_plus: bytes) -> None:
    """Refuse a header if a proxy could read its host or the end of its body in another way.

    Raises:
        ParsingError: there is more than one Host or, in HTTP/1.1, none (RFC 9112, 3.2), or the body
            is framed in two ways or by a coding that HTTP/1.0 lacks (RFC 9112, 6.1).
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
        raise ParsingError("There must be exactly one Host header")


class RequestParser(HTTPRequestParser):
    """The parser of one request."""

    # Waitress reads both later, but sets neither if it refuses a header.
    command = path = ""

    def received(self, data: bytes) -> int:
        """Take the next bytes from the client; return how many belong to this request."""
        skipped = 0
        if self.chunked:
            data = data[:_PIECE_BYTES]
        elif self.body_rcv is None and not self.header_plus:
            # A server should ignore empty lines before a request (RFC 9112, 2.2).
            skipped = len(data) - len(data := data.lstrip(b"\r\n"))
        taken = skipped + int(super().received(data))
        if self.chunked and self.body_bytes_received > 2 * len(self.body_rcv) + _FRAMING_BYTES:
            self.error, self.completed = (
                BadRequest("The body consists mostly of chunk framing"),
                True,
            )
        return taken

    def parse_header(self, header_plus: bytes) -> None:
        """Read the header.

        Raises:
            ParsingError: the header is malformed, or can be read in two ways.
        """
        _refuse_ambiguous(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError:  # for a bracket without an address, or a length of thousands of digits
            raise ParsingError("The header must be a valid request") from None
