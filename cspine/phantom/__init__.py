"""Synthetic CT slices of the neck (the phantom), for which the truth is known."""
