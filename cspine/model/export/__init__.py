"""From `best.h5` to OpenVINO's IR, and to int8. `python -m cspine.model.export` does the first."""
