"""The one table from the class of an error to the status of its answer."""

from __future__ import annotations

from cspine.core.errors import (
    CspineError,
    FetchError,
    ImageError,
    ImageTooLargeError,
    OverloadedError,
    UnsupportedImageError,
    UrlNotAllowedError,
)

STATUSES: dict[type[CspineError], int] = {
    UrlNotAllowedError: 403,
    ImageTooLargeError: 413,
    UnsupportedImageError: 415,
    ImageError: 422,
    FetchError: 422,
    OverloadedError: 503,
    # Settings, data sets and model files are ours to mend, not the caller's.
    CspineError: 500,
}
