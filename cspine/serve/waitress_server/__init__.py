"""Waitress with deadlines, eviction and early refusals. Imports no route."""
