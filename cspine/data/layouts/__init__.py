"""Readers of data set layouts: class folders, CSV tables, RSNA 2022."""
