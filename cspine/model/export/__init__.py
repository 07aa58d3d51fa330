"""Export of `best.h5` to OpenVINO's format, IR (`python -m cspine.model.export`), and to int8."""
