"""Experiments on data sets, and on the scores that models report for them."""
