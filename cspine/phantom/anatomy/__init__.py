"""Shapes and tissues of the synthetic neck."""
