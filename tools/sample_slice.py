"""Write cspine/predict/sample_slice.png, the synthetic slice that `predict_test.py` sends.

    python -m tools.sample_slice

The slice shows a plain fracture of a phantom patient who is in no training set.
"""

from pathlib import Path

from cspine.phantom.writers.demo_slices import demo_slices

SAMPLE = Path(__file__).parents[1] / "cspine" / "predict" / "sample_slice.png"
SEED = 7


def main() -> None:
    """Write the slice."""
    SAMPLE.write_bytes(demo_slices(SEED)[0].png)


if __name__ == "__main__":
    main()
