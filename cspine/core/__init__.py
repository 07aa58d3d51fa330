"""Errors, labels, settings and small tools, which every other package may import."""
