"""Audit a data set for copies, leaks and shortcuts."""
