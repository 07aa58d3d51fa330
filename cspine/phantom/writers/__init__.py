"""Write synthetic data sets, demonstration slices and contact sheets."""
