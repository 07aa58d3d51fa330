"""Inference with OpenVINO: queue, outputs, resources."""
