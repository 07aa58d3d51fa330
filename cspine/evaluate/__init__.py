"""Evaluation figures with 95 % intervals, and the report page built from them."""
