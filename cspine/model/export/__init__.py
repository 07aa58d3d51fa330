"""Export of `best.h5` to OpenVINO's IR (`python -m cspine.model.export`), and to int8."""
