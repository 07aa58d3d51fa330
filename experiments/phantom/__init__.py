"""Experiments on the phantom: realism, limits set by physics, and finding the vertebra."""
