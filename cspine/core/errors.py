"""The errors that a user can meet, as one class hierarchy.

    CspineError
    ├── ConfigError                  a flag, a setting or a configuration file
    ├── DataError                    a data set on disk
    │   └── SplitLeakError           the same slice on two sides of a split
    ├── ImageError                   the bytes of one image
    │   ├── UnsupportedImageError    a format, modality or transfer syntax that is not read
    │   └── ImageTooLargeError       more bytes or pixels than the limit
    ├── FetchError                   an image URL
    │   ├── UrlNotAllowedError       a URL that must not be fetched
    │   └── FetchTimeoutError        a fetch past its deadline
    ├── ArtifactError                a model file or card
    └── OverloadedError              more work than the service accepts

A message says what must hold, what was received, and if it is not obvious, what to do next. It
never holds a traceback, a fetched body or an internal address. A command-line user sees one line on
stderr and exit code 2; `serve/errors.py` maps each class to an HTTP status.
"""

from __future__ import annotations

import reprlib

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 40


def quote(value: object) -> str:
    """Return at most 40 characters of a value's `repr`, since a long value could fill the log."""
    return _shorten.repr(value)[:40]


class CspineError(Exception):
    """Any error that its reader can correct, except `FaultError` of `serve`."""


class ConfigError(CspineError):
    """A flag, `CSPINE_*` setting or configuration file holds a value that cannot be used."""


class DataError(CspineError):
    """A data set is missing, has an unknown layout, or holds files that cannot be read."""


class SplitLeakError(DataError):
    """The same slice is on two sides of a split."""


class ImageError(CspineError):
    """The bytes are not one readable image."""


class UnsupportedImageError(ImageError):
    """The format, modality or transfer syntax is not one that cspine reads."""


class ImageTooLargeError(ImageError):
    """The image has more bytes or pixels than the limit."""


class FetchError(CspineError):
    """An image URL could not be fetched."""


class UrlNotAllowedError(FetchError):
    """The URL is ambiguous, not http(s), or leads to an address that must not be fetched."""


class FetchTimeoutError(FetchError):
    """The fetch did not end within its deadline."""


class ArtifactError(CspineError):
    """A model file or its card is missing, damaged, or not one that cspine would load."""


class OverloadedError(CspineError):
    """The service holds as much work as it accepts.

    `retry_after_s` is the number of seconds after which a client should try again.
    """

    # The default is one second, since most overloads are short bursts.
    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
