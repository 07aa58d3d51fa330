"""Errors, labels, settings and small tools, which every room may import."""
