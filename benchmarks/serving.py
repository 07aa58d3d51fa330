"""Requests a second, latency, CPU and memory: a plain Flask service beside ours, in one run.

`python benchmarks/serving.py [--architectures cnn …] [--clients 1 2 8 32] [--seconds 4]` prints
JSON. The plain service is what a careful user would write: Flask, Waitress, Keras on TensorFlow,
`model.predict`, warmed. Both get the same 512² PNGs from the same clients, on one machine, so the
clients' CPU is part of what is measured. Weights are random: speed does not depend on them. Ours
runs with its answer cache off and int8 forced, unless `--precision` says otherwise. No two requests
carry the same bytes (a number follows the picture's end), so nothing in flight is ever shared.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import describe_machine  # noqa: E402

SIZES = {"cnn": 192, "resnet50v2": 224, "inceptionv3": 299, "xception": 299}
CALIBRATION_IMAGES = 16


# ---------- roles of the child processes ----------


def build(folder: Path, name: str) -> None:
    """Publish a model with random weights, its IR and its int8 IR into `folder`."""
    from cspine.core.labels import CLASS_NAMES
    from cspine.decide.calibration import Calibration
    from cspine.decide.conformal import Conformal
    from cspine.decide.distance import InDistribution
    from cspine.decide.policy import DecisionPolicy
    from cspine.decide.threshold import Threshold
    from cspine.model.artifact import hash_file, publish_version, save_weights, write_card
    from cspine.model.classifier import build_classifier
    from cspine.model.export import export_ir
    from cspine.model.quantise import quantise_ir

    staging = folder / "staging"
    staging.mkdir(parents=True)
    classifier = build_classifier(name, SIZES[name], weights="none", seed=0, map_head=True)
    width = int(classifier.serving.output["embedding"].shape[-1])
    gate = InDistribution(
        np.zeros(width, np.float32), np.eye(64, width, dtype=np.float32),
        np.ones(64, np.float32), 1.0, 1e12, 0.995,
    )  # fmt: skip
    policy = DecisionPolicy(
        Calibration("platt", 1.0, 0.0), Threshold(0.5, "youden", None), Conformal(0.1, 1, 1), gate
    )
    path = staging / "best.h5"
    digest = save_weights(classifier, path, policy.to_dict(), policy.arrays(), "vertebra")
    export_ir(path, staging)
    random = np.random.default_rng(0)
    shape = (CALIBRATION_IMAGES, SIZES[name], SIZES[name])
    quantise_ir(staging, digest, random.integers(0, 256, shape, dtype=np.uint8))
    names = ("best.h5", "best.xml", "best.bin", "best_int8.xml", "best_int8.bin")
    write_card(staging, {
        "schema_version": 1, "version": digest[:12], "architecture": name,
        "image_size": SIZES[name], "view": "vertebra", "map_head": True,
        "class_names": list(CLASS_NAMES), "decision": policy.to_dict(),
        "files": {one: hash_file(staging / one) for one in names},
    })  # fmt: skip
    publish_version(staging, folder)


def serve_plain(folder: Path, port: int) -> None:
    """The plain service: decode with Pillow, crop the middle, `model.predict`, one lock a model."""
    import io

    import keras
    import waitress
    from flask import Flask, jsonify, request
    from PIL import Image

    model = keras.models.load_model(folder / "best.h5", compile=False)
    size = int(model.inputs[0].shape[1])
    app = Flask("plain")

    @app.post("/predict")
    def predict() -> Any:
        picture = Image.open(io.BytesIO(request.get_data())).convert("RGB")
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
        pixels = np.asarray(picture.crop((left, top, left + size, top + size)), np.float32)
        probability = float(model.predict(pixels[None], verbose=0)[0, 0])
        return jsonify(prediction="fracture" if probability >= 0.5 else "normal",
                       probability=probability)  # fmt: skip

    @app.get("/health/ready")
    def ready() -> str:
        return "ready"

    model.predict(np.zeros((1, size, size, 3), np.float32), verbose=0)
    waitress.serve(app, listen=f"127.0.0.1:{port}", threads=8, _quiet=True)


def measure_engine(folder: Path, precision: str, seconds: float) -> dict[str, float]:
    """Images a second of the bare engine on decoded crops, and CPU seconds an image."""
    from cspine.model.artifact import resolve_version
    from cspine.model.engine import Engine

    engine = Engine.load(resolve_version(folder), precision)
    image = np.random.default_rng(0).integers(0, 256, (engine.image_size,) * 2, dtype=np.uint8)
    start, cpu, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        for future in [engine.submit(image) for _ in range(16)]:
            future.result()
        done += 16
    took, used = time.perf_counter() - start, time.process_time() - cpu
    return {"images_per_s": round(done / took, 1), "cpu_s_per_image": round(used / done, 4)}


def run_clients(job: dict[str, Any]) -> dict[str, Any]:
    """Post in a closed loop from `clients` threads for `seconds`; only 200s count as done.

    A body in which `NUMBER` stands has it replaced, any other has it appended, by a number of its
    own for each request.
    """
    bodies = [base64.b64decode(body) for body in job["bodies"]]
    numbers = itertools.count(int(time.time() * 1000) * 1000)
    headers = {"Content-Type": job["content_type"]}
    latencies: list[float] = []
    failures: dict[int, int] = {}
    end = time.perf_counter() + job["seconds"]

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", job["port"], timeout=120)
        while (start := time.perf_counter()) < end:
            number += 1
            body, unique = bodies[number % len(bodies)], b"%d" % next(numbers)
            body = body.replace(b"NUMBER", unique) if b"NUMBER" in body else body + unique
            connection.request("POST", "/predict", body, headers)
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                latencies.append(time.perf_counter() - start)
            else:
                failures[response.status] = failures.get(response.status, 0) + 1

    start, cpu = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(job["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, used = time.perf_counter() - start, time.process_time() - cpu
    count = max(1, len(latencies))
    return {
        "requests_per_s": round(len(latencies) / took, 2),
        "p50_ms": round(1000 * float(np.percentile(latencies or [np.nan], 50)), 1),
        "p99_ms": round(1000 * float(np.percentile(latencies or [np.nan], 99)), 1),
        "client_cpu_s_per_request": round(used / count, 4),
        "failures": failures,
    }


# ---------- the run ----------


def in_child(role: str, *arguments: object, backend: str = "openvino", text: str = "") -> str:
    """Run one role in a process of its own and return what it prints."""
    command = [sys.executable, __file__, "--role", role, *map(str, arguments)]
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, env=environment, input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Service:
    """A service in a child process: started, waited for, measured, ended."""

    def __init__(self, command: list[str], port: int, environment: dict[str, str]) -> None:
        start = time.perf_counter()
        self.port = port
        self.child = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.DEVNULL
        )
        self.process = psutil.Process(self.child.pid)
        while not self._is_ready():
            if self.child.poll() is not None or time.perf_counter() - start > 300:
                raise RuntimeError(f"{command} did not become ready")
            time.sleep(0.02)
        self.ready_s = round(time.perf_counter() - start, 2)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def measure(self, bodies: list[bytes], kind: str, clients: int, seconds: float) -> dict:
        """Return the clients' figures, and the service's CPU and resident memory."""
        job = {
            "bodies": [base64.b64encode(body).decode() for body in bodies], "port": self.port,
            "content_type": kind, "clients": clients, "seconds": seconds,
        }  # fmt: skip
        before = sum(self.process.cpu_times()[:2])
        figures = json.loads(in_child("clients", text=json.dumps(job)))
        used = sum(self.process.cpu_times()[:2]) - before
        done = max(1.0, figures["requests_per_s"] * seconds)
        figures["service_cpu_s_per_request"] = round(used / done, 4)
        figures["resident_mb"] = round(self.process.memory_info().rss / 1e6)
        return figures

    def end(self) -> None:
        """Stop the process."""
        self.child.terminate()
        self.child.wait()


def make_pictures(count: int = 16) -> list[bytes]:
    """Return PNGs of synthetic slices, 512², in each of which the finder sees a vertebra."""
    from cspine.imaging.localise import find_vertebra
    from cspine.imaging.preprocess import encode_png
    from cspine.phantom.dataset import PhantomConfig, render_patient

    slices = [one.grey for seed in (1, 2, 3, 4) for one in render_patient(seed, PhantomConfig())]
    return [encode_png(grey) for grey in slices if find_vertebra(grey) is not None][:count]


def serve_pictures(pictures: list[bytes], port: int) -> ThreadingHTTPServer:
    """Serve `/<n>.png` on `port` from this process."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, _, number = self.path[1:].partition(".png?")
            body = pictures[int(name)] + number.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def compare(name: str, options: argparse.Namespace, pictures: list[bytes]) -> dict[str, Any]:
    """Return all figures of one architecture."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "models"
        in_child("build", folder, name)
        figures: dict[str, Any] = {
            "engine": json.loads(in_child("engine", folder, options.precision, options.seconds))
        }
        figures["plain"] = measure_plain(folder, options, pictures)
        figures["ours"] = measure_ours(folder, options, pictures)
    return figures


def measure_plain(folder: Path, options: argparse.Namespace, pictures: list[bytes]) -> dict:
    """Return the plain service's figures by number of clients."""
    port = free_port()
    command = [sys.executable, __file__, "--role", "plain", str(folder), str(port)]
    service = Service(command, port, {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"})
    result = {"ready_s": service.ready_s}
    for clients in options.clients:
        result[str(clients)] = service.measure(pictures, "image/png", clients, options.seconds)
    service.end()
    return result


def measure_ours(folder: Path, options: argparse.Namespace, pictures: list[bytes]) -> dict:
    """Return our figures by upload and by URL, by number of clients."""
    port, picture_port = free_port(), free_port()
    server = serve_pictures(pictures, picture_port)
    service = Service([sys.executable, "predict_flask.py"], port, {
        "CSPINE_MODEL_DIR": str(folder), "CSPINE_LISTEN": f"127.0.0.1:{port}",
        "CSPINE_PRECISION": options.precision, "CSPINE_CACHE": "off",
        "CSPINE_FETCH_ALLOW": f"127.0.0.1:{picture_port}", "CSPINE_LOG_LEVEL": "warning",
    })  # fmt: skip
    links = [
        json.dumps({"url": f"http://127.0.0.1:{picture_port}/{n}.png?NUMBER"}).encode()
        for n in range(len(pictures))
    ]
    result: dict[str, Any] = {"ready_s": service.ready_s, "upload": {}, "url": {}}
    for clients in options.clients:
        for way, bodies, kind in (
            ("upload", pictures, "image/png"), ("url", links, "application/json"),
        ):  # fmt: skip
            result[way][str(clients)] = service.measure(bodies, kind, clients, options.seconds)
    service.end()
    server.shutdown()
    return result


def main() -> None:
    """Run everything and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 2, 8, 32])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--precision", default="int8", choices=("f32", "bf16", "int8"))
    options = parser.parse_args()
    pictures = make_pictures()
    machine = describe_machine()
    results = {}
    for name in options.architectures:
        results[name] = compare(name, options, pictures)
        print(json.dumps({name: results[name]}), file=sys.stderr)
    print(json.dumps({"machine": machine, "precision": options.precision,
                      "seconds": options.seconds, "results": results}, indent=1))  # fmt: skip


def run_role(role: str, arguments: list[str]) -> None:
    """Be one of the child processes."""
    if role == "build":
        build(Path(arguments[0]), arguments[1])
    elif role == "plain":
        serve_plain(Path(arguments[0]), int(arguments[1]))
    elif role == "engine":
        folder, precision, seconds = arguments
        print(json.dumps(measure_engine(Path(folder), precision, float(seconds))))
    else:
        print(json.dumps(run_clients(json.loads(sys.stdin.read()))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--role"]:
        run_role(sys.argv[2], sys.argv[3:])
    else:
        main()
