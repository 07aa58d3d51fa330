"""Data sets: indexing, audit, splits, and crops as arrays."""
