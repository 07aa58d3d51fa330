"""What the tests of serving share: a predictor without a model, pictures, a client, a wait."""

import io
import socket
import threading

import numpy as np
from PIL import Image

from cspine.core.deadline import Deadline
from cspine.imaging.decode import decode_image, image_from_array
from cspine.predict.prediction import Prediction

NO_DEADLINE = Deadline()


class FakeEngine:
    precision = precision_used = "f32"
    busy_s = staticmethod(lambda: 0.0)


class FakePredictor:
    """Answers by the picture's mean; `hold` makes it wait until it is set."""

    engine = FakeEngine()
    architecture = "cnn"

    def __init__(self, version: str = "0123456789ab"):
        self.version, self.domain, self.is_opened = version, "real", False
        self.serial = id(self)
        self.card = {"note": "a model of the tests"}
        self.hold = threading.Event()
        self.hold.set()
        self.calls = 0

    def compile_low_latency(self) -> None:
        """Nothing is compiled here."""

    def predict(self, data: bytes, explain: bool = False, deadline: Deadline = NO_DEADLINE):
        return self.answer(decode_image(data), explain, deadline)

    def predict_pixels(self, pixels, explain=False, deadline=NO_DEADLINE):
        return self.answer(image_from_array(pixels), explain, deadline)

    def answer(self, image, explain, deadline):
        self.calls += 1
        assert self.hold.wait(timeout=deadline.remaining_s())
        probability = float(image.grey.mean()) / 255
        word = "fracture" if probability > 0.5 else "normal"
        height, width = image.grey.shape
        heat = np.zeros_like(image.grey) if explain else None
        return Prediction(
            word,
            probability,
            0.5,
            True,
            (0, 0, width, height),
            "cnn",
            self.version,
            ("a model of the tests",),
            heat,
            image.kind,
            None,
            image.grey if explain else None,
            domain=self.domain,
        )


def make_png(value: int = 200, size: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def connect(runner) -> socket.socket:
    return socket.create_connection(("127.0.0.1", runner.port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the service ends the connection."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        return received
    return received
