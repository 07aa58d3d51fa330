"""Figures with intervals and the report; takes (y_true, predict_fn) and knows no model."""
