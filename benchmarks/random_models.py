"""Child processes of the benchmarks: random models, a plain service, costs without HTTP.

    python -m benchmarks.random_models --role build FOLDER NAME [SEED]

The role `build` publishes a model with random weights, its OpenVINO files (IR) and its int8 IR into
FOLDER. Its calibration depends on SEED, so that the answers of two versions differ. The role
`plain` is the plain Flask service that ours is compared with. The roles `engine` and `stages`
measure the parts of a request without HTTP; each must run alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np

from cspine.model.networks.architectures import ARCHITECTURES

CALIBRATION_IMAGES = 16
AT_ONCE = 16


def build(folder: Path, name: str, seed: int = 0, map_head: bool = True, revision: int = 1) -> None:
    """Publish a model with random weights, its IR and its int8 IR into `folder`."""
    from cspine.core.labels import REAL
    from cspine.model.networks.classifier import build_classifier

    size = ARCHITECTURES[name].image_size
    staging = folder / f"staging{seed}"
    classifier = build_classifier(name, size, "none", seed, map_head, revision=revision)
    policy = make_policy(int(classifier.serving.output["embedding"].shape[-1]), seed)
    shape = (CALIBRATION_IMAGES, size, size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    publish(folder, staging, classifier, policy, "vertebra", REAL, calibration_images=images)


def publish(
    folder: Path,
    staging: Path,
    classifier: Any,
    policy: Any,
    view: str,
    domain: str,
    note: str = "",
    calibration_images: np.ndarray | None = None,
) -> None:
    """Publish a network and its policy into `folder`, with the smallest card that is valid.

    The files are first written to the new folder `staging`. If `calibration_images`, uint8
    (N, S, S), are given, the files include the int8 IR.
    """
    from cspine.core.labels import CLASS_NAMES
    from cspine.model.export.ir import export_ir
    from cspine.model.export.quantise import quantise_ir
    from cspine.model.store.card import CARD_NAME, SCHEMA_VERSION, write_card
    from cspine.model.store.hashes import hash_file
    from cspine.model.store.keras_weights import save_weights
    from cspine.model.store.registry import VERSION_LENGTH, publish_version

    staging.mkdir(parents=True, exist_ok=True)
    path = staging / "best.h5"
    digest = save_weights(classifier, path, policy.to_dict(), policy.arrays(), view, domain, note)
    export_ir(path, staging)
    if calibration_images is not None:
        quantise_ir(staging, digest, calibration_images)
    card = {
        "schema_version": SCHEMA_VERSION,
        "version": digest[:VERSION_LENGTH],
        "architecture": classifier.name,
        "image_size": classifier.image_size,
        "view": view,
        "map_head": classifier.map_head,
        "class_names": list(CLASS_NAMES),
        "decision": policy.to_dict(),
        "domain": domain,
        "note": note,
        "files": {p.name: hash_file(p) for p in staging.glob("best*") if p.name != CARD_NAME},
    }
    write_card(staging, card)
    publish_version(staging, folder)


def make_policy(width: int, seed: int) -> Any:
    """Return a decision policy of full size that accepts every image; `seed` sets the calibration's
    shift."""
    from cspine.decide.calibration import Calibration
    from cspine.decide.conformal import Conformal
    from cspine.decide.out_of_distribution import MAX_CENTRES, InDistribution
    from cspine.decide.policy import DecisionPolicy
    from cspine.decide.threshold import Threshold

    # The gate has as many centres as a fitted gate may have, so it costs as much CPU. It refuses
    # nothing, because no score reaches 1e12.
    centres, scales = np.zeros((MAX_CENTRES, width), np.float32), np.ones(width, np.float32)
    gate = InDistribution(centres, 1e12, 0.995, scales, scales)
    calibration = Calibration("platt", 1.0, 0.5 * seed)
    return DecisionPolicy(calibration, Threshold(0.5, "youden", None), Conformal(0.1, 1, 1), gate)


def serve_plain(folder: Path, port: int) -> None:
    """Run the plain service: decode with Pillow, crop the middle, call `model.predict`."""
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
        return jsonify(
            prediction="fracture" if probability >= 0.5 else "normal", probability=probability
        )

    @app.get("/health/ready")
    def ready() -> str:
        return "ready"

    # Keras builds its function at the first call. Called here so that no client waits for it.
    model.predict(np.zeros((1, size, size, 3), np.float32), verbose=0)
    waitress.serve(app, listen=f"127.0.0.1:{port}", threads=8, _quiet=True)


def measure_engine(folder: Path, precision: str, seconds: float) -> dict[str, float]:
    """Return the engine's images per second on random crops, and its CPU seconds per image."""
    from cspine.model.engine.engine import Engine
    from cspine.model.store.registry import resolve_version

    engine = Engine.load(resolve_version(folder), precision)
    image = np.random.default_rng(0).integers(0, 256, (engine.image_size,) * 2, dtype=np.uint8)
    start, cpu, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        # Many images at once, to keep all streams busy.
        for future in [engine.submit(image) for _ in range(AT_ONCE)]:
            future.result()
        done += AT_ONCE
    took, used = time.perf_counter() - start, time.process_time() - cpu
    return {"images_per_s": round(done / took, 1), "cpu_s_per_image": round(used / done, 5)}


def measure_stages(paths: list[Path], size: int, seconds: float) -> dict[str, float]:
    """Return the CPU seconds per image of each stage before the network.

    The stages are decoding, the check whether the picture is a neck CT, and the preprocessing in
    both views; in `vertebra` view that is the search for the vertebra and the crop. One process per
    core runs at the same time.
    """
    cores = cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        work = [pool.submit(_time_stages, paths, size, seconds) for _ in range(cores)]
        rows = [one.result() for one in work]
    return {name: round(sum(row[name] for row in rows) / cores, 5) for name in rows[0]}


def _time_stages(paths: list[Path], size: int, seconds: float) -> dict[str, float]:
    from cspine.decide.image_checks import check_image
    from cspine.imaging.decode import decode_image
    from cspine.imaging.preprocess import preprocess

    datas = [path.read_bytes() for path in paths]
    spent = {"decode": 0.0, "check": 0.0, "resize_vertebra": 0.0, "resize_slice": 0.0}
    rounds, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end or rounds == 0:
        for data in datas:
            marks = [time.process_time()]
            image = decode_image(data)
            marks.append(time.process_time())
            check_image(image.grey, image.is_colour)
            marks.append(time.process_time())
            preprocess(image.grey, "vertebra", size)
            marks.append(time.process_time())
            preprocess(image.grey, "slice", size)
            marks.append(time.process_time())
            for name, a, b in zip(spent, marks, marks[1:], strict=False):
                spent[name] += b - a
        rounds += 1
    return {name: total / (rounds * len(datas)) for name, total in spent.items()}


def main() -> None:
    """Run the role that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", required=True, choices=("build", "plain", "engine", "stages"))
    parser.add_argument("arguments", nargs="+")
    given = parser.parse_args()
    first, *rest = given.arguments
    if given.role == "build":
        build(Path(first), rest[0], int(rest[1]) if rest[1:] else 0)
    elif given.role == "plain":
        serve_plain(Path(first), int(rest[0]))
    elif given.role == "engine":
        print(json.dumps(measure_engine(Path(first), rest[0], float(rest[1]))))
    else:
        paths = [Path(path) for path in rest[1:]]
        print(json.dumps(measure_stages(paths, ARCHITECTURES[first].image_size, float(rest[0]))))


if __name__ == "__main__":
    main()
