"""Measure the CPU milliseconds of decoding and preprocessing one 512 × 512 slice.

    python -m benchmarks.decode [FOLDER of PNG slices] > benchmarks/results/decode.json

Without a folder, the benchmark makes 20 slices of blurred noise in a circle. OpenCV is measured
only if it is installed; the project does not depend on it. Every figure is the minimum of several
rounds on one thread, because other work on the machine hardly changes the minimum.
"""

from __future__ import annotations

import io
import itertools
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageFilter
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from benchmarks.machine import describe_machine
from cspine.core.png import encode_png
from cspine.imaging.decode import decode_image
from cspine.imaging.image_headers import read_png
from cspine.imaging.preprocess import preprocess

try:
    import cv2
except ImportError:
    cv2 = None

ROUNDS, SLICES, SIDE_PX = 12, 20, 512
Measured = dict[str, tuple[Callable[[Any], object], list[Any]]]


def make_slices() -> list[np.ndarray]:
    """Return blurred noise in a circle on black, which compresses about as well as a CT slice."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX / 2
    inside = x**2 + y**2 < (SIDE_PX * 0.45) ** 2
    noise = rng.normal(128, 60, (SLICES, SIDE_PX, SIDE_PX)).clip(0, 255).astype(np.uint8)
    blurred = [Image.fromarray(one).filter(ImageFilter.GaussianBlur(1)) for one in noise]
    return [np.where(inside, np.asarray(one), 0).astype(np.uint8) for one in blurred]


def read_files(folder: Path) -> list[bytes]:
    """Return the first PNG files of 512 × 512 pixels under `folder`, sorted by path."""
    files = (path.read_bytes() for path in sorted(folder.rglob("*.png")))
    right = (data for data in files if decode_image(data).grey.shape == (SIDE_PX, SIDE_PX))
    return list(itertools.islice(right, SLICES))


def encode_jpeg(grey: np.ndarray) -> bytes:
    """Return a JPEG of quality 92, a usual setting of viewers that export images."""
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def encode_dicom(grey: np.ndarray) -> bytes:
    """Return an uncompressed 12-bit CT slice as a DICOM file."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CTImageStorage, "1.2.3", "CT"
    data.Rows, data.Columns = grey.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    # Scales 8-bit values to the 12 bits that CT stores.
    data.PixelData = (grey.astype(np.uint16) * 16).tobytes()
    data["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def open_with_pillow(data: bytes) -> np.ndarray:
    """Decode with Pillow and its default settings, without any check of ours."""
    return np.asarray(Image.open(io.BytesIO(data)))


def draft_with_pillow(data: bytes) -> np.ndarray:
    """Decode a JPEG with Pillow at half size, which scales in the DCT domain."""
    image = Image.open(io.BytesIO(data))
    image.draft("L", (SIDE_PX // 2, SIDE_PX // 2))
    return np.asarray(image)


def resize_with(name: str, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that resizes with Pillow and the filter called `name`."""
    chosen = Image.Resampling[name]
    return lambda grey: np.asarray(Image.fromarray(grey).resize((size, size), chosen))


def reduce_then_resize(size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that applies Pillow's `reduce(2)` and then a bilinear resize."""
    bilinear = Image.Resampling.BILINEAR
    return lambda grey: np.asarray(Image.fromarray(grey).reduce(2).resize((size, size), bilinear))


def list_decoders(pngs: list[bytes], slices: list[np.ndarray]) -> Measured:
    """Return name → (function, inputs) for every decoder."""
    jpegs = [encode_jpeg(grey) for grey in slices]
    ways: Measured = {
        "png: cspine": (decode_image, pngs),
        "png: cspine's walk over the chunks, part of it": (read_png, pngs),
        "png: Pillow as it is": (open_with_pillow, pngs),
        "jpeg: cspine": (decode_image, jpegs),
        "jpeg: Pillow as it is": (open_with_pillow, jpegs),
        "jpeg: Pillow draft at half size": (draft_with_pillow, jpegs),
        "dicom: cspine": (decode_image, [encode_dicom(grey) for grey in slices]),
    }
    if cv2 is not None:
        for kind, files in (("png", pngs), ("jpeg", jpegs)):
            buffers = [np.frombuffer(data, np.uint8) for data in files]
            read = lambda data: cv2.imdecode(data, cv2.IMREAD_UNCHANGED)  # noqa: E731
            ways[f"{kind}: OpenCV"] = (read, buffers)
    return ways


def list_preparations(slices: list[np.ndarray]) -> Measured:
    """Return name → (function, inputs) for every way to preprocess, resize and encode."""
    ways: Measured = {
        "slice view 299: cspine": (lambda grey: preprocess(grey, "slice", 299), slices),
        "vertebra view 192: cspine": (lambda grey: preprocess(grey, "vertebra", 192), slices),
        "resize 299: Pillow box": (resize_with("BOX", 299), slices),
        "resize 299: Pillow hamming": (resize_with("HAMMING", 299), slices),
        "resize 224: Pillow bilinear": (resize_with("BILINEAR", 224), slices),
        "resize 224: Pillow reduce(2), bilinear": (reduce_then_resize(224), slices),
        "encode png: cspine": (encode_png, slices),
    }
    if cv2 is not None:
        area = lambda grey: cv2.resize(grey, (299, 299), interpolation=cv2.INTER_AREA)  # noqa: E731
        ways["resize 299: OpenCV area"] = (area, slices)
    return ways


def measure(ways: Measured) -> dict[str, float]:
    """Return name → CPU milliseconds per image, the minimum over all rounds."""
    least = dict.fromkeys(ways, float("inf"))
    # Each round runs every function once. If the machine is busy for a moment, only that round
    # is slow for all functions, and the minimum ignores it.
    for _ in range(ROUNDS):
        for name, (function, inputs) in ways.items():
            start = time.process_time()
            for one in inputs:
                function(one)
            least[name] = min(least[name], (time.process_time() - start) / len(inputs) * 1000)
    return {name: round(value, 3) for name, value in least.items()}


def main() -> None:
    """Measure everything and print one JSON object."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    pngs = [encode_png(grey) for grey in make_slices()] if folder is None else read_files(folder)
    slices = [decode_image(data).grey for data in pngs]
    if cv2 is not None:
        # The other libraries use one thread, and CPU time is the sum over all threads.
        cv2.setNumThreads(1)
    result = {
        "machine": describe_machine(),
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "opencv": None if cv2 is None else cv2.__version__,
        "images": f"{len(slices)} slices of 512 × 512, "
        + ("made here" if folder is None else "real, from a folder given by path"),
        "png_bytes_mean": round(sum(map(len, pngs)) / len(pngs)),
        "cpu_ms_an_image": measure(list_decoders(pngs, slices) | list_preparations(slices)),
    }
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
