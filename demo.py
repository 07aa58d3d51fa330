"""The demonstration: train on synthetic CT, start the service, and ask it about two slices.

    python demo.py [--once]

All files go to `build/demo`. The demonstration posts the URLs of a fractured and a normal slice, of
patients who are in no training set, and prints each answer with the truth. The service then runs
until Ctrl-C, or ends at once with `--once`. The exit code is 0 if both answers are right, else 1.
Not a medical device.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from cspine.core.labels import CLASS_NAMES, MEDICAL_NOTICE
from cspine.phantom.writers.demo_slices import DemoSlice, demo_slices
from predict_test import post, read_answer, serve_slice

ROOT = Path(__file__).parent
SLICES = "127.0.0.1:9697"  # the address that serves the two slices
SEED = 6  # gives two slices on which the models of three trainings agreed
# A service that is stopped may take 30 s to answer the accepted requests.
READY_S, STOP_S = 60, 35
SETTINGS = ROOT / "configs" / "quick.toml"


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments; training defaults come from `configs/quick.toml`."""
    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))
    about = "Train a model on synthetic CT, start the service, and ask it about two slices."
    parser = argparse.ArgumentParser(description=f"{about} {MEDICAL_NOTICE}")
    add = parser.add_argument
    add("--out", type=Path, default=Path("build/demo"), help="output folder; default: %(default)s")
    add("--once", action="store_true", help="stop the service after the two answers")
    add("--port", type=int, default=9696, help="preferred port; default: %(default)s")
    add("--patients", type=int, help="synthetic patients; default: %(default)s")
    # Epochs instead of a time limit, so that the model is the same on a busy machine.
    add("--epochs", type=int, help="epochs of training; default: %(default)s")
    parser.set_defaults(patients=settings["patients"], epochs=settings["epochs"])
    return parser.parse_args()


def train(arguments: argparse.Namespace) -> Path:
    """Train the CNN on the phantom set and return the folder of its models."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = arguments.out / "settings.toml"
    # The number of patients has no flag in `train.py`, only this setting.
    patients = f"patients = {arguments.patients}"
    text = re.sub(r"(?m)^patients = .*$", patients, SETTINGS.read_text(encoding="utf-8"))
    settings.write_text(text, encoding="utf-8")
    models = arguments.out / "models"
    command = [sys.executable, "train.py", "--config", str(settings.resolve())]
    command += ["--epochs", str(arguments.epochs)]
    # `train.py` runs in the repository's root, so the path is converted from the current folder.
    subprocess.run([*command, "--out", os.path.relpath(models, ROOT)], cwd=ROOT, check=True)
    return models


def pick_port(wanted: int) -> int:
    """Return the port `wanted` if it is free, else any free port."""
    # The port is released before the service binds it; another program may take it in between.
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(models: Path, port: int) -> Iterator[str]:
    """Serve `models` while the block runs, and yield the service's address."""
    environment = os.environ | {
        "CSPINE_MODEL_DIR": str(models.resolve()),
        "CSPINE_LISTEN": f"127.0.0.1:{port}",
        "CSPINE_FETCH_ALLOW": SLICES,
        "KERAS_BACKEND": "openvino",
    }
    service = subprocess.Popen([sys.executable, "predict_flask.py"], cwd=ROOT, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(service, address)
        yield address
    finally:
        service.terminate()
        service.wait(STOP_S)


def wait_until_ready(service: subprocess.Popen[bytes], address: str) -> None:
    """Return as soon as the service answers that its model is ready.

    Raises:
        TimeoutError: the service ended, or was not ready in time.
    """
    deadline = time.monotonic() + READY_S
    with requests.Session() as session:
        session.trust_env = False  # a proxy cannot reach the loopback address of this machine
        while service.poll() is None and time.monotonic() < deadline:
            with suppress(requests.ConnectionError, requests.Timeout):
                if session.get(f"{address}/health/ready", timeout=2).ok:
                    return
            time.sleep(0.1)
    raise TimeoutError(f"the service was not ready within {READY_S} s")


def ask(address: str, item: DemoSlice) -> bool:
    """Post one slice's URL, print answer and truth, and return whether they agree."""
    with serve_slice(item.png, SLICES) as url:
        answer = read_answer(post(address, json={"url": url}))
    truth = CLASS_NAMES[item.truth.label]
    width = f", {item.truth.width_mm:.1f} mm wide, {item.truth.level}" if item.truth.label else ""
    print(f"truth: {truth}{width}")
    print(f"answer: {answer['prediction']}, probability of a fracture {answer['probability']}")
    for warning in answer["warnings"]:
        print(f"  {warning}")
    return bool(answer["prediction"] == truth)


def main() -> int:
    """Train, serve and ask; return 0 if both answers are right, else 1."""
    arguments = parse_arguments()
    right: list[bool] = []
    try:
        # Checks that the slices' address is free before the training, which takes minutes.
        with serve_slice(b"", SLICES):
            pass
        with serve(train(arguments), pick_port(arguments.port)) as address:
            right = [ask(address, item) for item in demo_slices(SEED)]
            print(f"{sum(right)} of {len(right)} answers are right. Web page: {address}/")
            print(MEDICAL_NOTICE)
            while not arguments.once:
                time.sleep(1)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0 if right and all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
