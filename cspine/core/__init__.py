"""Errors, labels and settings: what every room may import, and what imports none of them."""
