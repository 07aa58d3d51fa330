"""Writers of synthetic data sets, demonstration slices and contact sheets."""
