"""The mark of a synthetic image, which the phantom's writers put into every file.

DICOM: Synthetic Data (0008,001C) is YES (PS3.3 C.7.6.1.1) and Manufacturer (0008,0070) is this
project's. PNG: a `tEXt` chunk (ISO/IEC 15948, 11.3.4.3) with the keyword and text below. The mark
is no proof, since any program can write it: it only lets a model of synthetic images answer.
"""

from __future__ import annotations

MANUFACTURER = "cspine"
DICOM_YES = "YES"
PNG_KEYWORD, PNG_TEXT = "Synthetic Data", f"YES, {MANUFACTURER} phantom"
# A chunk's content in the file: keyword, zero byte, text, all Latin-1.
PNG_CONTENT = f"{PNG_KEYWORD}\0{PNG_TEXT}".encode("latin-1")
