"""Reader of the few raw DICOM elements that a CT slice needs (PS3.5 section 7, PS3.10 section 7).

This reader walks over the top level, reads the wanted tags and skips all others. pydicom's reader
is not used, because a service needs limits that pydicom lacks: no recursion, no value of a client's
file in a warning or log line, and a limit on elements and inflated bytes. The tests compare this
reader with pydicom's.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from cspine.core.errors import ImageError, UnsupportedImageError
from cspine.imaging.decoded_image import Limits

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

PIXEL_DATA = 0x7FE00010
_META_LENGTH, _MEDIA_CLASS, _TRANSFER_SYNTAX = 0x00020000, 0x00020002, 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF

# Length in 4 bytes, as for every VR that is not in the next list (PS3.5 7.1.2).
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_MAX_ELEMENTS = 100_000  # a CT slice has some hundreds
_MAX_DEPTH = 64  # of nested sequences
_MAX_VALUE_BYTES = 64 * 1024  # of any wanted element except the pixels


@dataclass
class Elements:
    """The wanted top-level elements of one data set and of its meta group.

    Fields:
        transfer_syntax: UID of the data set's transfer syntax.
        values: tag → raw value bytes, for the wanted tags that are present.
        pixels: the value of PixelData if it is native, else None.
        fragments: the fragments of PixelData if it is encapsulated (PS3.5 A.4), without the basic
            offset table; else None.
    """

    transfer_syntax: str
    values: dict[int, bytes] = field(default_factory=dict)
    pixels: memoryview | None = None
    fragments: list[memoryview] | None = None

    @property
    def order(self) -> str:
        """The byte-order character for `struct`."""
        return ">" if self.transfer_syntax == EXPLICIT_BIG else "<"


def is_dicom(data: bytes) -> bool:
    """Return whether the bytes begin as a DICOM file does, with or without its preamble."""
    if data[128:132] == b"DICM":
        return True
    if len(data) < 16:
        return False
    group, element = struct.unpack_from("<HH", data)
    if group == 0x0800:  # a big-endian data set begins with group 0008 read as 0800
        return data[4:6] in _SHORT_VRS
    return group in (0x0002, 0x0008) and (element <= 0x0100 or data[4:6] in _SHORT_VRS)


def read_elements(data: bytes, wanted: frozenset[int], limits: Limits) -> Elements:
    """Return the `wanted` top-level elements and the pixel data of a DICOM file.

    Args:
        data: the bytes of the file.
        wanted: tags, group × 65536 + element.
        limits: `max_bytes` bounds deflated data after inflation.

    Raises:
        ImageTooLargeError: deflated data inflates beyond `limits.max_bytes`.
        UnsupportedImageError: the transfer syntax is not a UID.
        ImageError: the file is truncated or not DICOM.
    """
    try:
        return _read_elements(data, wanted, limits)
    except struct.error:
        raise _cut_short() from None


def _read_elements(data: bytes, wanted: frozenset[int], limits: Limits) -> Elements:
    view = memoryview(data)
    start = 132 if data[128:132] == b"DICM" else 0
    meta = Elements(EXPLICIT_LITTLE)
    # The meta group is explicit little endian for every transfer syntax (PS3.10 7.1).
    needed = frozenset((_META_LENGTH, _MEDIA_CLASS, _TRANSFER_SYNTAX))
    start = _Walk(view, start, meta, needed, last_group=0x0002).run()
    declared = meta.values.get(_TRANSFER_SYNTAX)
    if declared is None:
        syntax = _guess_syntax(view, start)
    else:
        syntax = declared.rstrip(b"\0 ").decode("ascii", "replace")
    if not is_uid(syntax):
        raise UnsupportedImageError("A DICOM transfer syntax must be a UID. Received: other text")
    if syntax == DEFLATED_LITTLE:
        view, start = memoryview(_inflate(view[start:], limits)), 0
    elements = Elements(syntax, {tag: meta.values[tag] for tag in wanted & meta.values.keys()})
    _Walk(view, start, elements, wanted).run()
    return elements


def is_uid(text: str) -> bool:
    """Return whether `text` has the form of a UID: 1–64 digits and dots (PS3.5 section 9.1)."""
    return 0 < len(text) <= 64 and all(
        part.isascii() and part.isdigit() for part in text.split(".")
    )


def _guess_syntax(view: memoryview, start: int) -> str:
    """Return the transfer syntax of a data set without file meta information, by its first tag."""
    vr = bytes(view[start + 4 : start + 6])
    if vr not in _SHORT_VRS and vr not in _LONG_VRS:
        return IMPLICIT_LITTLE
    # A data set begins with a low group. Big-endian group 0008 reads as 0800 in little endian.
    group = struct.unpack_from("<H", view, start)[0]
    return EXPLICIT_BIG if group >= 0x0400 else EXPLICIT_LITTLE


def _inflate(view: memoryview, limits: Limits) -> bytes:
    """Return the inflated data set (PS3.5 A.5), which has the same size limit as the file."""
    # A negative number selects raw deflate, without the header and checksum of zlib.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # Inflating stops one byte above the limit, which is enough to detect an excess.
        inflated = inflater.decompress(view, limits.max_bytes + 1)
    except zlib.error:
        raise ImageError("The deflated DICOM must be whole. Received: damaged data") from None
    limits.check_bytes(len(inflated), "inflated DICOM")
    if not inflater.eof:
        raise _cut_short()
    return inflated


def _cut_short() -> ImageError:
    return ImageError(
        "The DICOM file must be whole. Received: an element that ends beyond the end of the file, "
        "which was cut short or damaged"
    )


@dataclass
class _Level:
    """An open item or sequence of undefined length, or the data set itself."""

    is_implicit: bool
    is_item: bool = False


class _Walk:
    """One pass over the elements of `view` from `position`, filling `elements`.

    Sequences are not built into a tree. A stack only matches sequences and items of undefined
    length with their delimiters.

    As in GDCM, the end of a sequence also ends an item that was not closed, and of a repeated
    element the first value counts.
    """

    def __init__(
        self,
        view: memoryview,
        position: int,
        elements: Elements,
        wanted: frozenset[int],
        last_group: int = 0xFFFF,
    ) -> None:
        self.view, self.position, self.elements, self.wanted = view, position, elements, wanted
        self.last_group = last_group
        self.meta_end = len(view)
        self.order = elements.order
        implicit = elements.transfer_syntax == IMPLICIT_LITTLE
        self.stack = [_Level(self._check_implicit(implicit))]

    def _check_implicit(self, declared: bool) -> bool:
        """Return whether elements are really implicit; some files are not coded as declared."""
        vr = bytes(self.view[self.position + 4 : self.position + 6])
        if len(vr) < 2:
            return declared
        return vr not in _SHORT_VRS and vr not in _LONG_VRS

    def run(self) -> int:
        """Walk to the end of PixelData, of `last_group` or of the file; return that position."""
        for _ in range(_MAX_ELEMENTS):
            # The meta group ends where its own length says so (PS3.10 7.1).
            if self.position + 8 > len(self.view) or self.position >= self.meta_end:
                return self.position
            before = self.position
            tag, vr, length = self._read_header()
            if tag >> 16 > self.last_group and len(self.stack) == 1:
                return before
            # PixelData at a deeper level belongs to an icon.
            if len(self.stack) == 1 and tag == PIXEL_DATA:
                self._take_pixels(length)
                return self.position
            self._step(tag, vr, length)
        raise ImageError(f"A DICOM file must hold at most {_MAX_ELEMENTS} elements. Received: more")

    def _read_header(self) -> tuple[int, bytes, int]:
        """Return (tag, VR, length) and move to the value; VR is b"" for an implicit element."""
        group, element = struct.unpack_from(self.order + "HH", self.view, self.position)
        vr = bytes(self.view[self.position + 4 : self.position + 6])
        # Items and delimiters have no VR in any syntax (PS3.5 7.5).
        if group == 0xFFFE or self._is_implicit(vr):
            vr, size, form = b"", 8, "I"
        elif vr in _SHORT_VRS:
            size, form = 8, "H"
        else:
            size, form = 12, "I"
        length_size = 4 if form == "I" else 2
        offset = self.position + size - length_size
        length = struct.unpack_from(self.order + form, self.view, offset)[0]
        self.position += size
        return group << 16 | element, vr, length

    def _is_implicit(self, vr: bytes) -> bool:
        """Return whether the next element is implicit, by the bytes where its VR would be."""
        level = self.stack[-1]
        # Some writers put explicit elements into UN sequences, which should be implicit. As a
        # length, the letters of a VR would be 16 KB or more.
        if level.is_implicit and not self.stack[0].is_implicit:
            level.is_implicit = vr not in _SHORT_VRS and vr not in _LONG_VRS
        return level.is_implicit or not (vr.isalpha() and vr.isupper())

    def _step(self, tag: int, vr: bytes, length: int) -> None:
        """Store or skip the value of an element that is not PixelData."""
        if tag in (_ITEM_END, _SEQUENCE_END):
            self._close(tag)
        elif length == _UNDEFINED:
            if len(self.stack) > _MAX_DEPTH:
                raise ImageError(
                    f"DICOM sequences must nest at most {_MAX_DEPTH} deep. Received: more"
                )
            # An item cannot hold an item, so the one before was not closed.
            if tag == _ITEM and self.stack[-1].is_item:
                self.stack.pop()
            # The content of a UN element of undefined length is implicit (PS3.5 6.2.2 note 2).
            is_implicit = self.stack[-1].is_implicit or vr == b"UN"
            self.stack.append(_Level(is_implicit, is_item=tag == _ITEM))
        else:
            if len(self.stack) == 1 and tag in self.wanted:
                self._take_value(tag, length)
            self._skip(length)

    def _close(self, tag: int) -> None:
        """End the open item or sequence that the delimiter `tag` belongs to."""
        if tag == _SEQUENCE_END and self.stack[-1].is_item:
            self.stack.pop()
        if len(self.stack) == 1 or self.stack[-1].is_item != (tag == _ITEM_END):
            raise ImageError(
                "A DICOM delimiter must end an item or a sequence. Received: one with none open"
            )
        self.stack.pop()

    def _take_value(self, tag: int, length: int) -> None:
        if length > _MAX_VALUE_BYTES:
            raise ImageError(
                f"A DICOM attribute must have at most {_MAX_VALUE_BYTES} bytes. Received: {length}"
            )
        value = self.elements.values.setdefault(tag, bytes(self.view[self.position :][:length]))
        if tag == _META_LENGTH and length == 4:
            # Beyond the end of the file, the group number alone ends the group.
            self.meta_end = self.position + length + struct.unpack("<I", value)[0]

    def _skip(self, length: int) -> None:
        self.position += length
        if self.position > len(self.view):
            raise _cut_short()

    def _take_pixels(self, length: int) -> None:
        """Store PixelData as a view of native samples, or as the list of its fragments."""
        if length != _UNDEFINED:
            start = self.position
            self._skip(length)
            self.elements.pixels = self.view[start : self.position]
            return
        fragments: list[memoryview] = []
        for _ in range(_MAX_ELEMENTS):
            # Some writers omit the delimiter if nothing follows the pixels.
            is_end = self.position == len(self.view) and len(fragments) > 1
            tag, _vr, length = (_SEQUENCE_END, b"", 0) if is_end else self._read_header()
            if tag == _SEQUENCE_END:
                self.elements.fragments = fragments[1:]  # the first item is the offset table
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise ImageError("Encapsulated pixel data must be items. Received: another element")
            start = self.position
            self._skip(length)
            fragments.append(self.view[start : self.position])
        raise ImageError(
            f"Encapsulated pixel data must be fewer than {_MAX_ELEMENTS} items. Received: more"
        )
