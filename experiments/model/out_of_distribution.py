"""Measure how many non-CT pictures and how many unseen phantoms a model refuses to judge.

    python -m experiments.model.out_of_distribution [--model models] [--patients 60] [--seed 1003]
        [--real DIR]

Every picture is a PNG that takes the path of a served request, at f32. The bars (required values):

- at least 99 % of the pictures of `other_pictures.py` are refused;
- at most 1 % of the unseen phantoms are refused;
- at least 90 % of real slices are answered with `uncertain` and `in_distribution` false, because a
  model that learned only from phantoms must not judge them.

All PNGs under DIR are used; the output contains none of their names. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient
from cspine.phantom.writers.parallel import run_per_patient
from cspine.predict.prediction import Prediction
from cspine.predict.predictor import Predictor
from cspine.stats.intervals import wilson_interval
from experiments.model.other_pictures import COUNTS, draw_pictures, encode


def encode_patient(patient: int, config: PhantomConfig) -> list[bytes]:
    """Return the slices of one patient, each as the bytes of a PNG file."""
    return [encode(item.grey) for item in render_patient(patient, config)]


def summarise(answers: Iterable[Prediction]) -> dict[str, Any]:
    """Return how many pictures were refused, their share with its interval, and the reasons."""
    said = list(answers)
    strangers = [one for one in said if not one.in_distribution]
    # The last warning is the reason; warnings before it are about the model or the file.
    reasons = Counter(one.warnings[-1] if one.warnings else "" for one in strangers)
    return {
        "pictures": len(said),
        "refused": len(strangers),
        "refused_share": wilson_interval(len(strangers), len(said)).to_dict(),
        "uncertain_and_refused": sum(one.prediction == "uncertain" for one in strangers),
        "reasons": dict(reasons.most_common()),
    }


def read_real(folder: Path) -> Iterator[bytes]:
    """Yield the bytes of every PNG file under a folder, sorted by path."""
    for path in sorted(folder.rglob("*.png")):
        yield path.read_bytes()


def main() -> None:
    """Answer every picture and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--patients", type=int, default=60, help="unseen synthetic patients")
    parser.add_argument("--seed", type=int, default=1003, help="must not be a training set's seed")
    parser.add_argument("--real", type=Path, help="folder of real slices")
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.model, "f32", answer_synthetic=True)
    if arguments.seed == predictor.card["seeds"]["phantom"]:
        parser.error("--seed must differ from the seed that the model was trained on")
    report: dict[str, Any] = {"machine": describe_machine(), "model": predictor.version}
    said = {
        kind: [predictor.predict(encode(pixels)) for pixels in draw_pictures(kind, count)]
        for kind, count in COUNTS.items()
    }
    report["other_pictures"] = summarise(one for answers in said.values() for one in answers)
    report["by_kind"] = {kind: summarise(answers) for kind, answers in said.items()}
    config = PhantomConfig(patients=arguments.patients, seed=arguments.seed)
    phantoms = run_per_patient(partial(encode_patient, config=config), config.patients)
    report["phantoms"] = {"seed": config.seed, **summarise(map(predictor.predict, phantoms))}
    if arguments.real:
        report["real"] = summarise(map(predictor.predict, read_real(arguments.real)))
    report["bars"] = {
        "other_pictures_refused": report["other_pictures"]["refused_share"]["value"] >= 0.99,
        "phantoms_accepted": report["phantoms"]["refused_share"]["value"] <= 0.01,
    }
    if arguments.real:
        real = report["real"]
        report["bars"]["real_refused"] = bool(
            real["uncertain_and_refused"] >= np.ceil(0.9 * real["pictures"])
        )
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
