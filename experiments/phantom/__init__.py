"""Experiments on the phantom: its realism, physical limits, shortcuts, and the vertebra finder."""
