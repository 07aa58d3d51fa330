"""Finder of the vertebra in an axial slice."""
