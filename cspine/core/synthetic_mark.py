"""The mark of a synthetic image, which is written into every file of the phantom set.

DICOM: Synthetic Data (0008,001C) is YES (PS3.3 C.7.6.1.1) and Manufacturer (0008,0070) is
`cspine`. PNG: a `tEXt` chunk (ISO/IEC 15948, 11.3.4.3) with the keyword and text below. The mark
is no proof, since any program can write it. Its only effect is that a model trained on synthetic
images answers for the file.
"""

from __future__ import annotations

MANUFACTURER = "cspine"
DICOM_YES = "YES"
PNG_KEYWORD, PNG_TEXT = "Synthetic Data", f"YES, {MANUFACTURER} phantom"
# The content of the PNG chunk: keyword, zero byte, text, all in Latin-1.
PNG_CONTENT = f"{PNG_KEYWORD}\0{PNG_TEXT}".encode("latin-1")
