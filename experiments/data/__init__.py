"""Experiments on data sets, and on the figures that models trained on them report."""
